"""Write the summary of a study: optimum per budget, exponents, forecast and measurement."""

from __future__ import annotations

import math

from scaling import results
from scaling.utils import precision


def lines(
    fits,
    forecast=None,
    holdout: results.RunResult | None = None,
    unit: str = "tokens",
) -> list[str]:
    """Return the summary as lines of text, with intervals at the study's confidence.

    `unit`: the unit of D.
    """
    text = []
    if fits.isoflop:
        text.append(f"Optimum per budget (IsoFLOP parabolas; {fits.conditions['embedding']})")
        text.append(f"  {'FLOPs':>9} {'N*':>10} {'D*':>12} {'D*/N*':>7} {'loss':>8}  note")
        for p in fits.isoflop.profiles:
            size, tokens, loss = (
                precision.texts(i.value, i.low, i.high)[0]
                for i in (p.n_opt, p.tokens_opt, p.loss_opt)
            )
            ratio = p.tokens_opt.value / p.n_opt.value
            ratio = "-" if math.isnan(ratio) else f"{ratio:.3g}"
            text.append(
                f"  {p.budget:9.2e} {size:>10} {tokens:>12} {ratio:>7} {loss:>8}  "
                f"{p.problem or ''}".rstrip()
            )
    elif fits.refused.get("isoflop"):
        text.append(f"{len(fits.table.loss)} runs; lowest loss {fits.table.loss.min():.4f}")
    text.append("Exponents with intervals")
    for title, fit in (("envelope", fits.envelope), ("IsoFLOP", fits.isoflop)):
        if fit is None:
            text.append(f"  {title:10} refused: {fits.refused[title.lower()]}")
            continue
        parts = [
            f"{name} ~ C^{e.brief()}"
            for name, e in (
                ("N*", fit.n_opt.exponent),
                ("D*", fit.tokens_opt.exponent),
                ("L*", fit.frontier.exponent),
            )
        ]
        text.append(f"  {title:10} " + "  ".join(parts))
    if fits.chinchilla:
        c = fits.chinchilla
        parts = [f"{name} {i.brief()}" for name, i in c.intervals.items()]
        text.append("  L(N, D)    " + "  ".join(parts))
        text.append(f"             verdict: {c.verdict}")
    else:
        text.append(f"  L(N, D)    refused: {fits.refused['chinchilla']}")
    for fit in (fits.isoflop, fits.chinchilla, fits.envelope):
        text.extend(f"  warning: {w}" for w in (fit.warnings if fit else ()))
    if forecast:
        p = forecast["predicted_loss"]
        text.append(
            f"Held-out run: {forecast['flops']:.3g} FLOPs, n_params {forecast['n_params']:,}, "
            f"{forecast['tokens']:,} {unit}"
        )
        parts = [
            f"{name} {precision.of_dict(law['loss'])} (weight {law['weight']:.2f}, backtest "
            + (" ".join(f"{e:+.1%}" for e in law["backtest_log_errors"]) or "none")
            + ")"
            for name, law in forecast["laws"].items()
        ]
        text.append("  laws combined: " + ", ".join(parts))
        text.append(f"  predicted loss {precision.of_dict(p)}")
        if holdout and holdout.loss is not None:
            error = holdout.loss / p["value"] - 1
            inside = "inside" if p["low"] <= holdout.loss <= p["high"] else "outside"
            text.append(
                f"  measured loss  {precision.with_error(holdout.loss, holdout.loss_se)}  "
                f"({error:+.2%}, {inside} the interval)"
            )
    return text
