"""Draw the best learning rate or batch size against size or length, with its power law."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from scaling.laws.lr_batch_law import HyperFit
from scaling.laws.lr_batch_optima import Tuned
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

POINTS = 41
BEYOND = 3.0  # the law extends beyond the optima by this factor
LINES = 6  # values of the other input, at most


def picture(
    table: Table,
    groups: Sequence[Tuned],
    law: HyperFit | None,
    name: str,
    confidence: float,
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Return the optima of all groups and the law through them, against the input that varies.

    Series: `optimum`, `left out` (the best value tried, if no optimum lies inside the grid) and
    `law`, with a line per value of the other input. Columns: n_params, tokens, `name`, low, high.
    """
    good = [g for g in groups if not g.problem]
    bad = [g for g in groups if g.problem]
    series: dict[str, dict] = {
        "optimum": {
            **_inputs(good),
            name: np.array([g.optimum.value for g in good]),
            "low": np.array([g.optimum.low for g in good]),
            "high": np.array([g.optimum.high for g in good]),
        },
        "left out": {**_inputs(bad), name: np.array([_best(table, g, name) for g in bad])},
    }
    inputs = law.form.inputs if law else ()
    sizes = {float(f"{g.inputs['n_params']:.6g}") for g in groups}
    x = inputs[0] if inputs else ("n_params" if len(sizes) > 1 else "tokens")
    other = "tokens" if x == "n_params" else "n_params"
    if law:
        series["law"] = _line(law, good, x, other)
    title = law.equation if law else f"Best {name}; no law, for the reason in the JSON"
    return Picture(
        stacked(series),
        partial(draw, name=name, x=x, other=other, title=title, lines=len(inputs) > 1,
                confidence=confidence, labels=labels),
    )  # fmt: skip


def _inputs(groups: Sequence[Tuned]) -> dict[str, np.ndarray]:
    return {c: np.array([g.inputs[c] for g in groups]) for c in ("n_params", "tokens")}


def _best(table: Table, group: Tuned, name: str) -> float:
    close = [np.abs(np.log(table[c] / group.inputs[c])) < 0.02 for c in ("n_params", "tokens")]
    rows = np.flatnonzero(np.logical_and(*close))
    return float(table[name][rows[table.loss[rows].argmin()]])


def _line(law: HyperFit, good: Sequence[Tuned], x: str, other: str) -> dict[str, np.ndarray]:
    optima = np.array([g.inputs[x] for g in good])
    grid = np.geomspace(optima.min() / 1.5, optima.max() * BEYOND, POINTS)
    values = np.unique([float(f"{g.inputs[other]:.6g}") for g in good])
    if len(law.form.inputs) == 1:
        values = np.array([np.nan])
    elif len(values) > LINES:
        values = values[np.linspace(0, len(values) - 1, LINES).round().astype(int)]
    columns: dict[str, list] = {x: [], other: [], law.form.target: [], "low": [], "high": []}
    for value in values:
        for point in grid:
            inputs = {x: point, other: value}
            interval = law.predict_interval(*(inputs[name] for name in law.form.inputs))
            columns[x].append(point)
            columns[other].append(value)
            columns[law.form.target].append(interval.value)
            columns["low"].append(interval.low)
            columns["high"].append(interval.high)
    return {name: np.array(v) for name, v in columns.items()}


def draw(
    columns: Columns,
    name: str,
    x: str,
    other: str,
    title: str,
    lines: bool,
    confidence: float,
    labels: Mapping[str, str] | None,
) -> Axes:
    """Draw the law with a line per value of `other`, the optima, and the groups left out."""
    heading = style.mathtext(title) if "=" in title else title
    axes = style.new_axes(heading, style.label(x, labels), f"best {style.label(name, labels)}")
    best, bad, law = (part(columns, s) for s in ("optimum", "left out", "law"))
    values = np.unique(law[other]) if lines else np.array([np.nan])
    shades = style.shades(len(values)) if lines else [style.BLUE]
    for value, colour in zip(values, shades, strict=False):
        rows = law[other] == value if lines else np.full(len(law[x]), True)
        if not rows.any():
            continue
        label = f"law at {style.symbol(other)} = {style.count(value)}" if lines else "law"
        axes.plot(law[x][rows], law[name][rows], "-", color=colour, lw=1.3, label=label)
        ends = np.stack([law["low"][rows], law["high"][rows]])
        if np.isfinite(ends).all():
            axes.fill_between(law[x][rows], *ends, color=colour, alpha=0.15, lw=0)
    if len(best[x]):
        sides = np.stack([best[name] - best["low"], best["high"] - best[name]])
        axes.errorbar(
            best[x], best[name], yerr=np.where(np.isfinite(sides), np.maximum(sides, 0.0), 0.0),
            fmt="*", color=style.RED, ms=9, mec="white", mew=0.5, capsize=2.5, elinewidth=1,
            zorder=5, label=f"optimum, {confidence:.0%} interval",
        )  # fmt: skip
    if len(bad[x]):
        axes.plot(
            bad[x], bad[name], "x", color=style.GREY, label="best tried; no optimum inside the grid"
        )
    style.log_ticks(axes, "x", most=8)
    style.log_ticks(axes, "y")
    axes.legend(fontsize=7)
    return axes
