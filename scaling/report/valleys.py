"""Loss against the learning rate or the batch size, a line per group of runs, with the optimum of
each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.lr_batch_optima import HYPERPARAMETERS, Tuned
from scaling.laws.seeds import repeats
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

MOST = 4  # lengths that have a panel each; of more, all groups share one
STEEP = 1.25  # losses above this many times the highest optimum are cut off


def picture(
    table: Table,
    groups: Sequence[Tuned],
    name: str,
    loss_se: np.ndarray,
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Series `mean` (seeds of one setting, the other hyperparameter at its best), `optimum` where
    it is interior.

    Columns: n_params, tokens, `name`, loss, sd, count, loss_se; low and high of an optimum.
    """
    others = [h for h in HYPERPARAMETERS if h in table and h != name]
    keys = [table[c] for c in ("n_params", "tokens", name, *others)]
    points = repeats(keys, table.loss)
    first = points.first_P
    rows = {c: table[c][first] for c in ("n_params", "tokens", name, *others)}
    rows |= {
        "loss": points.mean_P,
        "sd": points.sd_P,
        "count": points.count_P,
        "loss_se": loss_se[first],
    }
    settings = repeats([rows[c] for c in ("n_params", "tokens", name)], rows["loss"])
    best = [
        min(np.flatnonzero(settings.member_N == p), key=lambda i: rows["loss"][i])
        for p in range(len(settings.first_P))
    ]
    good = [g for g in groups if not g.problem]
    optima = {
        "n_params": np.array([g.inputs["n_params"] for g in good]),
        "tokens": np.array([g.inputs["tokens"] for g in good]),
        name: np.array([g.optimum.value for g in good]),
        "low": np.array([g.optimum.low for g in good]),
        "high": np.array([g.optimum.high for g in good]),
        "loss": np.array([g.loss for g in good]),
    }
    series = {"mean": {c: np.asarray(v)[best] for c, v in rows.items()}, "optimum": optima}
    return Picture(stacked(series), partial(draw, name=name, labels=labels))


def draw(columns: Columns, name: str, labels: Mapping[str, str] | None) -> Figure:
    runs, best = part(columns, "mean"), part(columns, "optimum")
    lengths = np.unique(runs["tokens"])
    apart = len(lengths) <= MOST
    count = len(lengths) if apart else 1
    width = style.WIDTH * (1.3 if count > 1 else 1.0)
    figure, panels = style.panels(count, width=width, height=4.0 if count == 1 else 2.9)
    sizes = np.unique(runs["n_params"])
    colours = dict(zip(sizes, style.shades(len(sizes)), strict=False))
    for panel, length in zip(panels, lengths, strict=False):
        here = (
            np.abs(np.log(runs["tokens"] / length)) < 0.02
            if apart
            else np.full(len(runs[name]), True)
        )
        stars = (
            np.abs(np.log(best["tokens"] / length)) < 0.02
            if apart
            else np.full(len(best[name]), True)
        )
        _panel(panel, {k: v[here] for k, v in runs.items()}, {k: v[stars] for k, v in best.items()},
               name, colours, lengths=not apart)  # fmt: skip
        if apart:
            panel.set_title(f"D = {style.count(length)}", fontsize=9)
        panel.set_xlabel(style.label(name, labels))
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(style.label("loss", labels))
    return figure


def _panel(axes: Axes, runs: Columns, best: Columns, name: str, colours, lengths: bool) -> None:
    """`lengths`: runs of all lengths stand here, so the legend has to name them, too."""
    axes.set(xscale="log", yscale="log")
    for n_params, tokens in sorted(set(zip(runs["n_params"], runs["tokens"], strict=True))):
        rows = (runs["n_params"] == n_params) & (runs["tokens"] == tokens)
        at = {k: v[rows] for k, v in runs.items()}
        colour = colours[n_params]
        axes.plot(at[name], at["loss"], "-", color=colour, lw=1)
        style.seeds(axes, at, name, color=colour, label=f"N = {style.count(n_params)}"
                    + (f", D = {style.count(tokens)}" if lengths else ""))  # fmt: skip
    sides = np.stack([best[name] - best["low"], best["high"] - best[name]])
    axes.errorbar(
        best[name], best["loss"], xerr=np.where(np.isfinite(sides), np.maximum(sides, 0.0), 0.0),
        fmt="*",
        color=style.RED, ms=9, mec="white", mew=0.5, capsize=2, elinewidth=1, zorder=6,
        label="optimum",
    )  # fmt: skip
    lowest = min([*runs["loss"], *best["loss"]])
    valleys = [runs["loss"][runs["n_params"] == n].min() for n in np.unique(runs["n_params"])]
    highest = min(runs["loss"].max(), STEEP * max(valleys))
    axes.set_ylim(lowest / 1.02, highest * 1.02)
    style.loss_ticks(axes)
    style.log_ticks(axes)
    axes.legend(fontsize=6.5)
