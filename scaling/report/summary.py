"""Write the summary of a study: optimum per budget, exponents, forecast and measurement."""

from __future__ import annotations

from scaling import results
from scaling.utils import units


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
            ratio = p.tokens_opt.value / p.n_opt.value
            text.append(
                f"  {p.budget:9.2e} {p.n_opt.value:10.3g} {p.tokens_opt.value:12.4g} {ratio:7.1f} "
                f"{p.loss_opt.value:8.4f}  {p.problem or ''}"
            )
    text.append("Exponents with intervals")
    for title, fit in (("envelope", fits.envelope), ("IsoFLOP", fits.isoflop)):
        if fit is None:
            text.append(f"  {title:10} refused: {fits.refused[title.lower()]}")
            continue
        parts = [
            f"{name} ~ C^{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
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
            f"{name} {law['loss']['value']:.4f} (weight {law['weight']:.2f}, backtest "
            + (" ".join(f"{e:+.1%}" for e in law["backtest_log_errors"]) or "none")
            + ")"
            for name, law in forecast["laws"].items()
        ]
        text.append("  laws combined: " + ", ".join(parts))
        text.append(f"  predicted loss {p['value']:.4f} [{p['low']:.4f}, {p['high']:.4f}]")
        if holdout and holdout.loss is not None:
            error = holdout.loss / p["value"] - 1
            inside = "inside" if p["low"] <= holdout.loss <= p["high"] else "outside"
            text.append(
                f"  measured loss  {units.with_error(holdout.loss, holdout.loss_se)}  "
                f"({error:+.2%}, {inside} the interval)"
            )
    return text
