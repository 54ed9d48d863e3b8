"""Draw proposed runs in the plane of N and D, with the allowed region, done runs and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.design import Prior, Target
from scaling.laws.design_plans import expected_optimum
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

LINES = 8  # of equal compute, at most
POINTS = 41
CROWDED = (0.25, 0.1)  # a mark within these decades of N and D covers another mark's number
AREA = 34  # points^2 of a run's mark
MARGIN = 2.0  # the axes extend beyond all points by this factor


def picture(
    runs: Sequence[Mapping[str, Any]],
    beliefs: Sequence[Prior],
    targets: Sequence[Target],
    limits: Mapping[str, Any],
    *,
    done: Table | None = None,
    flops_per_n_d: float = 6.0,
) -> Picture:
    """Return proposed and done runs, the allowed region, and the optimum that the beliefs expect.

    Series: `proposed` (with `count` and `share` of the FLOPs), `done`, `allowed` (the corners),
    `frontier` (mean and central 80% of the expected optimum), `target` (the same at the targets),
    and one per line of equal compute.
    """
    k = flops_per_n_d
    kept = ("n_params", "tokens", "flops", "count", "share")
    series: dict[str, dict] = {"proposed": {c: np.array([r[c] for r in runs]) for c in kept}}
    if done:
        series["done"] = {c: done[c] for c in ("n_params", "tokens", "flops")}
    cheapest, dearest = limits["min_flops"], limits["max_flops"]
    low, high = limits["tokens_per_param"]
    corners = ((cheapest, low), (cheapest, high), (dearest, high), (dearest, low), (cheapest, low))
    flops, ratio = np.array(corners).T
    size = np.sqrt(flops / k / ratio)
    series["allowed"] = {"n_params": size, "tokens": size * ratio, "flops": flops}
    target_flops = np.array([t.flops for t in targets])
    frontier = np.geomspace(min(cheapest, *target_flops), max(dearest, *target_flops), POINTS)
    series["frontier"] = _optimum(beliefs, frontier, k)
    series["target"] = _optimum(beliefs, target_flops, k)
    view = {
        c: (
            min(s[c].min() for s in series.values()) / MARGIN,
            max(s[c].max() for s in series.values()) * MARGIN,
        )
        for c in ("n_params", "tokens")
    }
    ends = [k * view["n_params"][i] * view["tokens"][i] for i in (0, 1)]
    decades = np.arange(np.ceil(np.log10(ends[0])), np.log10(ends[1]))
    for compute in 10.0 ** decades[:: max(1, int(np.ceil(len(decades) / LINES)))]:
        first = max(view["n_params"][0], compute / k / view["tokens"][1])
        last = min(view["n_params"][1], compute / k / view["tokens"][0])
        if last > first:
            n = np.array([first, last])
            series[equal_compute_name(compute)] = {
                "n_params": n,
                "tokens": compute / k / n,
                "flops": compute,
            }
    return Picture(stacked(series), draw)


def _optimum(beliefs: Sequence[Prior], flops: np.ndarray, k: float) -> dict[str, np.ndarray]:
    middle, low, high = expected_optimum(beliefs, flops, k)
    return {
        "n_params": middle,
        "tokens": flops / k / middle,
        "flops": flops,
        "n_params_low": low,
        "n_params_high": high,
        "tokens_low": flops / k / high,
        "tokens_high": flops / k / low,
    }


def draw(columns: Columns) -> Figure:
    """Draw all series of `picture`, with a colour bar for the share of the FLOPs."""
    figure, (axes,) = style.panels(1, height=4.8)
    runs, done, allowed, best, target = (
        part(columns, s) for s in ("proposed", "done", "allowed", "frontier", "target")
    )
    axes.set(
        xscale="log", yscale="log", xlabel=style.label("n_params"), ylabel=style.label("tokens")
    )
    lines = equal_compute_lines(columns)
    n = np.concatenate([line["n_params"] for line in lines])
    d = np.concatenate([line["tokens"] for line in lines])
    axes.set(xlim=(n.min(), n.max()), ylim=(d.min(), d.max()))
    axes.fill(
        allowed["n_params"], allowed["tokens"], facecolor="0.95", edgecolor="0.6", lw=0.8,
        zorder=0, label="allowed",
    )  # fmt: skip
    axes.plot([], [], ":", color="0.65", lw=0.8, label="equal FLOPs")
    for line in lines:
        _equal_compute(axes, line)
    axes.fill(
        np.concatenate([best["n_params_low"], best["n_params_high"][::-1]]),
        np.concatenate([best["tokens_high"], best["tokens_low"][::-1]]),
        color=style.RED, alpha=0.15, lw=0, zorder=1, label="central 80% of it",
    )  # fmt: skip
    axes.plot(
        best["n_params"], best["tokens"], "-", color=style.RED, lw=1.5, label="expected optimum"
    )
    if len(done["n_params"]):
        axes.scatter(
            done["n_params"], done["tokens"], s=AREA / 2, color=style.GREY, edgecolors="white",
            linewidths=0.5, zorder=3, label="done",
        )  # fmt: skip
    marks = axes.scatter(
        runs["n_params"], runs["tokens"], s=AREA * runs["count"], c=100 * runs["share"], vmin=0,
        cmap="viridis_r", edgecolors="black", linewidths=0.7, zorder=4,
    )  # fmt: skip
    axes.plot([], [], "o", color=style.GREEN, ms=np.sqrt(AREA), mec="black", label="proposed")
    _counts(axes, runs)
    axes.plot(
        target["n_params"], target["tokens"], "*", color=style.RED, ms=13, mec="white", mew=0.8,
        zorder=5, label="to be predicted",
    )  # fmt: skip
    cost = np.sum(runs["count"] * runs["flops"])
    axes.set_title(f"{runs['count'].sum():.0f} runs, {cost:.3g} FLOPs")
    style.log_ticks(axes, "x", most=7)
    style.log_ticks(axes, "y", most=7)
    axes.grid(False)
    figure.colorbar(marks, ax=axes, label="share of the FLOPs, %", pad=0.02)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _counts(axes: Axes, runs: Columns) -> None:
    """Write the number of equal runs to the right of a mark, or to the left if that is crowded."""
    places = np.log10(np.stack([runs["n_params"], runs["tokens"]], axis=1))
    for i in np.flatnonzero(runs["count"] > 1):
        right, up = (places - places[i]).T
        taken = ((right > 0) & (right < CROWDED[0]) & (np.abs(up) < CROWDED[1])).any()
        near = (np.abs(places - places[i]) < CROWDED[1]).all(axis=1)
        gap = 4 + np.sqrt(AREA * runs["count"][near].max()) / 2
        axes.annotate(
            f"{runs['count'][i]:.0f} x", (runs["n_params"][i], runs["tokens"][i]),
            (-gap if taken else gap, 0), fontsize=8, zorder=6, textcoords="offset points",
            va="center", ha="right" if taken else "left",
            path_effects=[patheffects.withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip


def _equal_compute(axes: Axes, line: Columns) -> None:
    """Draw a dotted line with its FLOPs at the lower end."""
    axes.plot(line["n_params"], line["tokens"], ":", color="0.65", lw=0.8, zorder=0.5)
    exponent = round(np.log10(line["flops"][0]))
    ends = axes.transData.transform(np.stack([line["n_params"], line["tokens"]], axis=1))
    if np.linalg.norm(ends[1] - ends[0]) < 80:  # too short for its label
        return
    rotation = float(np.degrees(np.arctan2(*(ends[1] - ends[0])[::-1])))
    axes.annotate(
        f"$10^{{{exponent}}}$", (line["n_params"][1], line["tokens"][1]), (-4, 3),
        textcoords="offset points", rotation=rotation, rotation_mode="anchor", va="bottom",
        ha="right", fontsize=7, color="0.4",
    )  # fmt: skip
