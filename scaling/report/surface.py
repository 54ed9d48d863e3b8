"""Draw the surface L(N, D): contours, runs, lines of equal compute and the efficient frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib import patheffects, ticker
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm

from scaling.laws.fit import Fit
from scaling.laws.frontier import Optimum, cost_per_token, frontier
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import (
    Columns,
    Picture,
    equal_compute_lines,
    equal_compute_name,
    part,
    stacked,
)

GRID = 41  # points of the surface per axis
LEVELS = 13
LINES = 8  # of equal compute, at most
MARGIN = (2.0, 4.0)  # the axes extend below and above the runs by these factors
FRONTIER_POINTS = 33


def picture(
    law: Fit,
    table: Table,
    optima: Sequence[Optimum] = (),
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Return the contours of a law of n_params and tokens.

    Series: `surface` (the grid), `run`, one per line of equal compute (FLOPs as the table's runs
    cost them) and `frontier`, which holds N* and D* by compute with their intervals. `optima` are
    the points of the frontier, computed if empty.
    """
    view = {
        c: (table[c].min() / MARGIN[0], table[c].max() * MARGIN[1]) for c in ("n_params", "tokens")
    }
    n_axis, d_axis = (np.geomspace(*view[c], GRID) for c in ("n_params", "tokens"))
    n_params, tokens = (a.ravel() for a in np.meshgrid(n_axis, d_axis))
    if not optima:
        ends = (table.flops.min() / MARGIN[0] ** 2, table.flops.max() * MARGIN[1] ** 2)
        optima = frontier(law, table, np.geomspace(*ends, FRONTIER_POINTS))
    cost = cost_per_token(table)
    compute = np.outer(d_axis, cost(n_axis))
    series: dict[str, dict] = {
        "surface": {"n_params": n_params, "tokens": tokens, "loss": law.predict(n_params, tokens)},
        "run": {
            "run_id": np.array(table.names),
            "n_params": table.n_params,
            "tokens": table.tokens,
            "flops": table.flops,
            "loss": table.loss,
        },
        "frontier": {
            "flops": np.array([o.flops for o in optima]),
            **{
                name + end: np.array([getattr(getattr(o, name), key) for o in optima])
                for name in ("n_params", "tokens", "loss")
                for end, key in (("", "value"), ("_low", "low"), ("_high", "high"))
            },
        },
    }
    decades = np.arange(np.ceil(np.log10(compute.min())), np.log10(compute.max()))
    for flops in 10.0 ** decades[:: max(1, int(np.ceil(len(decades) / LINES)))]:
        length = flops / cost(n_axis)
        inside = (length >= d_axis[0]) & (length <= d_axis[-1])
        if inside.sum() > 1:
            series[equal_compute_name(flops)] = {
                "n_params": n_axis[inside],
                "tokens": length[inside],
                "flops": flops,
            }
    return Picture(
        stacked(series),
        partial(draw, title=law.equation, confidence=law.confidence, labels=labels),
    )


def levels(loss: np.ndarray) -> np.ndarray:
    """Return about LEVELS rounded losses that split the surface into parts of similar area."""
    quantiles = np.quantile(loss, np.linspace(0.02, 0.98, LEVELS))
    for digits in range(1, 6):
        rounded = np.unique([float(f"{w:.{digits}e}") for w in quantiles])
        if len(rounded) >= LEVELS - 2:
            break
    return rounded


def draw(columns: Columns, title: str, confidence: float, labels: Mapping[str, str] | None) -> Axes:
    """Draw the contours, the runs, the frontier and lines of equal compute."""
    figure, (axes,) = style.panels(1, height=4.6)
    grid, runs, best = (part(columns, s) for s in ("surface", "run", "frontier"))
    n_axis, d_axis = np.unique(grid["n_params"]), np.unique(grid["tokens"])
    loss = grid["loss"].reshape(len(d_axis), len(n_axis))
    edges = levels(loss[np.isfinite(loss)])
    norm = BoundaryNorm(edges, 256, extend="both")
    colours = {"levels": edges, "norm": norm, "cmap": "viridis"}
    filled = axes.contourf(n_axis, d_axis, loss, extend="both", alpha=0.9, **colours)
    filled.set_edgecolor("face")  # no hairlines between bands
    axes.contour(n_axis, d_axis, loss, levels=edges, colors="white", linewidths=0.4, alpha=0.6)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=n_axis[[0, -1]],
        ylim=d_axis[[0, -1]],
        title=style.mathtext(title),
    )
    for line in equal_compute_lines(columns):
        _equal_compute(axes, line)
    ends = [
        np.concatenate([best[a], best[b][::-1]])
        for a, b in (("n_params_low", "n_params_high"), ("tokens_high", "tokens_low"))
    ]
    if np.isfinite(ends).all():
        axes.fill(*ends, color="white", alpha=0.35, lw=0, label=f"{confidence:.0%} interval of N*")
    casing = [patheffects.withStroke(linewidth=4, foreground="white")]
    axes.plot(
        best["n_params"], best["tokens"], "-", color=style.RED, lw=2,
        label="efficient frontier", path_effects=casing,
    )  # fmt: skip
    axes.scatter(
        runs["n_params"], runs["tokens"], c=runs["loss"], norm=norm, cmap="viridis", s=20,
        edgecolors="black", linewidths=0.6, zorder=4, label="runs, by measured loss",
    )  # fmt: skip
    axes.set(xlabel=style.label("n_params", labels), ylabel=style.label("tokens", labels))
    style.log_ticks(axes, "x", most=7)
    style.log_ticks(axes, "y", most=7)
    axes.grid(False)
    bar = figure.colorbar(filled, ax=axes, label=style.label("loss", labels), ticks=edges, pad=0.02)
    bar.ax.yaxis.set_minor_locator(ticker.NullLocator())
    legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    for patch in legend.get_patches():
        patch.set(facecolor="0.8", alpha=1.0)
    return axes


def _equal_compute(axes: Axes, line: Columns) -> None:
    """Draw a dotted line with its FLOPs near the upper end, at large D and small N."""
    axes.plot(line["n_params"], line["tokens"], ":", color="white", lw=1.0)
    second = 1  # the text starts at the second point of the line
    if len(line["flops"]) < GRID / 3:
        return  # too short for its label
    points = axes.transData.transform(np.stack([line["n_params"], line["tokens"]], axis=1))
    slope = points[2 * second] - points[second]
    exponent = round(np.log10(line["flops"][0]))
    axes.text(
        line["n_params"][second],
        line["tokens"][second],
        f" $10^{{{exponent}}}$ FLOPs",
        rotation=float(np.degrees(np.arctan2(slope[1], slope[0]))),
        rotation_mode="anchor",
        color="white",
        path_effects=[patheffects.withStroke(linewidth=1.2, foreground="0.35")],
        zorder=5,
        fontsize=7,
        va="bottom",
    )
