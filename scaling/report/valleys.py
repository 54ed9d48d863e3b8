"""Draw loss against the learning rate or the batch size, with a line and an optimum per group."""

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

MOST = 4  # lengths with a panel each; beyond that, all groups share one panel
STEEP = 1.25  # cut off losses above this many times the highest optimum


def picture(
    table: Table,
    groups: Sequence[Tuned],
    name: str,
    loss_se: np.ndarray,
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Return means over seeds, with the other hyperparameter at its best, and interior optima.

    Series: `mean` (columns n_params, tokens, `name`, loss, sd, count, loss_se) and `optimum`
    (n_params, tokens, `name`, low, high, loss). `loss_se`: `[runs]` of `table`.
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
    """Draw a panel per length, or a single one if the lengths are many."""
    runs, best = part(columns, "mean"), part(columns, "optimum")
    lengths = np.unique(runs["tokens"])
    split = len(lengths) <= MOST
    count = len(lengths) if split else 1
    width = style.WIDTH * (1.3 if count > 1 else 1.0)
    figure, panels = style.panels(count, width=width, height=4.0 if count == 1 else 2.9)
    sizes = np.unique(runs["n_params"])
    colours = dict(zip(sizes, style.shades(len(sizes)), strict=False))
    for panel, length in zip(panels, lengths, strict=False):
        run_rows = (
            np.abs(np.log(runs["tokens"] / length)) < 0.02
            if split
            else np.full(len(runs[name]), True)
        )
        best_rows = (
            np.abs(np.log(best["tokens"] / length)) < 0.02
            if split
            else np.full(len(best[name]), True)
        )
        _panel(
            panel,
            {k: v[run_rows] for k, v in runs.items()},
            {k: v[best_rows] for k, v in best.items()},
            name,
            colours,
            lengths=not split,
        )
        if split:
            panel.set_title(f"D = {style.count(length)}", fontsize=9)
        panel.set_xlabel(style.label(name, labels))
        if panel.get_subplotspec().is_first_col():
            panel.set_ylabel(style.label("loss", labels))
    return figure


def _panel(axes: Axes, runs: Columns, best: Columns, name: str, colours, lengths: bool) -> None:
    """Draw one panel. `lengths`: the panel has runs of all lengths, and the legend names them."""
    axes.set(xscale="log", yscale="log")
    for n_params, tokens in sorted(set(zip(runs["n_params"], runs["tokens"], strict=True))):
        rows = (runs["n_params"] == n_params) & (runs["tokens"] == tokens)
        points = {k: v[rows] for k, v in runs.items()}
        colour = colours[n_params]
        axes.plot(points[name], points["loss"], "-", color=colour, lw=1)
        style.seeds(axes, points, name, color=colour, label=f"N = {style.count(n_params)}"
                    + (f", D = {style.count(tokens)}" if lengths else ""))  # fmt: skip
    sides = np.stack([best[name] - best["low"], best["high"] - best[name]])
    axes.errorbar(
        best[name], best["loss"], xerr=np.where(np.isfinite(sides), np.maximum(sides, 0.0), 0.0),
        fmt="*", color=style.RED, ms=9, mec="white", mew=0.5, capsize=2, elinewidth=1, zorder=6,
        label="optimum",
    )  # fmt: skip
    lowest = min([*runs["loss"], *best["loss"]])
    valleys = [runs["loss"][runs["n_params"] == n].min() for n in np.unique(runs["n_params"])]
    highest = min(runs["loss"].max(), STEEP * max(valleys))
    axes.set_ylim(lowest / 1.02, highest * 1.02)
    style.loss_ticks(axes)
    style.log_ticks(axes)
    axes.legend(fontsize=6.5)
