"""Draw the measured losses of all runs against those that the law predicts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from scaling.laws.fit import Fit
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import Columns, Picture


def picture(law: Fit, table: Table, labels: Mapping[str, str] | None = None) -> Picture:
    """Return the measured and the predicted target of every run.

    Columns: `run_id`, the inputs, `flops` if known, `measured`, `predicted`, and `se` if the table
    has it.
    """
    names = [c for c in dict.fromkeys((*law.form.inputs, "flops")) if c in table]
    columns = {
        "run_id": np.array(table.names),
        **{name: table[name] for name in names},
        "measured": table[law.form.target],
        "predicted": np.asarray(law.predict(*(table[name] for name in law.form.inputs))),
    }
    if law.form.target == "loss" and "loss_se" in table:
        columns["se"] = table["loss_se"]
    return Picture(columns, partial(draw, target=law.form.target, labels=labels))


def draw(columns: Columns, target: str, labels: Mapping[str, str] | None) -> Figure:
    """Draw measured against predicted values with the line of equality, and their ratio."""
    figure, (left, right) = style.panels(2, width=style.WIDTH * 1.15, height=3.1)
    measured, predicted = columns["measured"], columns["predicted"]
    colour: dict[str, Any] = {"c": style.BLUE}
    # relative to the compute: equal budgets, multiplied out in float64, differ by about 1e-16
    if "flops" in columns and np.ptp(columns["flops"]) > 1e-12 * np.max(columns["flops"]):
        colour = {"c": columns["flops"], "norm": LogNorm(), "cmap": "viridis"}
    marks = {**colour, "s": 18, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
    relative = 100 * (measured / predicted - 1)
    if "se" in columns:
        bars = {"fmt": "none", "ecolor": style.GREY, "elinewidth": 0.8, "zorder": 2}
        left.errorbar(predicted, measured, yerr=columns["se"], **bars)
        right.errorbar(predicted, relative, yerr=100 * columns["se"] / predicted, **bars)
    points = left.scatter(predicted, measured, **marks)
    right.scatter(predicted, relative, **marks)
    values = np.concatenate([measured, predicted])
    values = values[np.isfinite(values)]
    ends = np.array([values.min() / 1.03, values.max() * 1.03])
    left.plot(ends, ends, "-", color=style.RED, lw=1, label="measured = predicted", zorder=1)
    right.axhline(0, color=style.RED, lw=1, zorder=1)
    name = style.label(target, labels)
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    right.set(xscale="log", xlim=ends)
    for panel in (left, right):
        panel.set_xlabel(f"predicted {name}")
        style.loss_ticks(panel, "x")
    style.loss_ticks(left, "y")
    left.set_ylabel(f"measured {name}")
    right.set_ylabel("measured / predicted - 1, %")
    left.legend(loc="upper left")
    if "norm" in colour:
        figure.colorbar(points, ax=[left, right], label=style.label("flops", labels), pad=0.01)
    return figure
