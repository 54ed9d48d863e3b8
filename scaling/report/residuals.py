"""Draw the residuals of a law against each input and compute, with the tested trends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from scaling.laws import diagnose
from scaling.laws.fit import Fit
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

TREND_POINTS = 60
LONG = 30  # the letters that fit under one of three panels


def picture(law: Fit, table: Table, labels: Mapping[str, str] | None = None) -> Picture:
    """Return the residuals against each input, and against compute if the table has it.

    Columns of a run: `run_id`, the inputs, the target, `predicted` and `log_residual` (log of
    measured over predicted). Columns of a trend: its points and `chance`, the probability that
    noise alone makes a trend as strong (F test of `laws.diagnose`).
    """
    scales = diagnose.scales(table, law.form)
    inputs = [table[name] for name in law.form.inputs]
    series: dict[str, dict] = {
        "run": {
            "run_id": np.array(table.names),
            **{name: table[name] for name in scales},
            law.form.target: table[law.form.target],
            "predicted": law.predict(*inputs),
            "log_residual": law.residuals,
        }
    }
    for name in scales:
        curve = diagnose.trend(table[name], law.residuals)
        if curve:
            x = np.geomspace(table[name].min(), table[name].max(), TREND_POINTS)
            series[f"trend against {name}"] = {
                name: x,
                "log_residual": curve.at(x),
                "chance": curve.chance,
            }
    return Picture(stacked(series), partial(draw, scales=scales, labels=labels))


def draw(columns: Columns, scales: tuple[str, ...], labels: Mapping[str, str] | None) -> Figure:
    """Draw a panel per column in `scales`. A trend beyond chance is a solid line."""
    count = len(scales)
    figure, axes = style.panels(
        count, width=style.WIDTH * (1.25 if count == 3 else 1), height=3.0, share_y=True
    )
    runs = part(columns, "run")
    for panel, name in zip(axes, scales, strict=True):
        panel.axhline(0, color=style.GREY, lw=1)
        panel.plot(
            runs[name],
            100 * np.expm1(runs["log_residual"]),
            "o",
            color=style.BLUE,
            ms=4,
            alpha=0.6,
            mew=0,
        )
        trend = part(columns, f"trend against {name}")
        if len(trend[name]):
            chance = float(trend["chance"][0])
            significant = chance < diagnose.BY_CHANCE
            panel.plot(
                trend[name],
                100 * np.expm1(trend["log_residual"]),
                "-" if significant else "--",
                color=style.RED,
                lw=2 if significant else 1.2,
                label=f"trend, p = {chance:.1g}",
            )
        text = style.label(name, labels)
        if len(text) > LONG:  # wider than its panel
            text = text.replace(", ", ",\n")
        panel.set(xscale="log", xlabel=text)
        if name == "loss":
            style.loss_ticks(panel, "x")
        else:
            style.log_ticks(panel, most=4)
        if len(trend[name]):
            panel.legend(loc="upper right", handlelength=1.6)
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low, high + 0.16 * (high - low))  # space for the legends, in all panels
    figure.supylabel("measured / predicted - 1, %", fontsize=10)
    return figure
