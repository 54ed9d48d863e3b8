"""Draw a law of one quantity with its interval and runs, to a decade beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from scaling.laws.fit import Fit
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

POINTS = 120
BEYOND = 10.0  # times the largest x


def picture(law: Fit, table: Table, labels: Mapping[str, str] | None = None) -> Picture:
    """Return the series `run` and `law` of a law of one input.

    `low` to `high` is the interval of the law, `run_low` to `run_high` that of a new run.
    """
    (name,), target = law.form.inputs, law.form.target
    x = table[name]
    if name == "loss":
        grid = np.linspace(0.9 * x.min(), x.max(), POINTS)  # better models have lower losses
    else:
        grid = np.geomspace(x.min(), BEYOND * x.max(), POINTS)
    value = np.asarray(law.predict(grid))

    means, runs = [law.mean_interval(x) for x in grid], [law.prediction_interval(x) for x in grid]
    columns = stacked(
        {
            "run": {"run_id": np.array(table.names), name: x, target: table[target]},
            "law": {
                name: grid,
                target: value,
                "low": np.array([i.low for i in means]),
                "high": np.array([i.high for i in means]),
                "run_low": np.array([i.low for i in runs]),
                "run_high": np.array([i.high for i in runs]),
            },
        }
    )
    return Picture(
        columns,
        partial(
            draw,
            x=name,
            y=target,
            title=law.equation,
            confidence=law.confidence,
            labels=labels,
        ),
    )


def draw(
    columns: Columns,
    x: str,
    y: str,
    title: str,
    confidence: float,
    labels: Mapping[str, str] | None,
) -> Axes:
    """Draw the runs, the law and both intervals."""
    axes = style.new_axes(style.mathtext(title), style.label(x, labels), style.label(y, labels))
    runs, law = part(columns, "run"), part(columns, "law")
    for low, high, alpha, subject in (
        ("run_low", "run_high", 0.12, "a new run"),
        ("low", "high", 0.3, "the law"),
    ):
        ends = np.stack([law[low], law[high]])
        if np.isfinite(ends).all(axis=0).any():
            # ends at infinity or 0 lie outside the picture
            ends = np.where(np.isnan(ends), ends, np.clip(ends, 1e-12, 1e12))
            axes.fill_between(
                law[x],
                *ends,
                color=style.BLUE,
                alpha=alpha,
                lw=0,
                label=f"{confidence:.0%} interval of {subject}",
            )
    axes.plot(law[x], law[y], "-", color=style.BLUE, lw=1.5, label="law")
    axes.plot(runs[x], runs[y], "o", color=style.ORANGE, ms=5, mec="white", mew=0.5, label="runs")
    if x == "loss":
        axes.set(xscale="linear", yscale="linear")
    else:
        shown = np.concatenate([runs[y], law[y][np.isfinite(law[y])], law["low"], law["high"]])
        shown = shown[np.isfinite(shown) & (shown > 0)]
        lowest = max(float(shown.min()), 0.3 * float(min(runs[y].min(), np.nanmin(law[y]))))
        axes.set_ylim(lowest / 1.04, max(runs[y].max(), np.nanmax(law[y])) * 1.06)
        axes.axvline(runs[x].max(), color=style.GREY, lw=0.8, ls=":")
        axes.annotate(
            "extrapolated",
            (runs[x].max(), 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="0.35",
        )
        style.log_ticks(axes, most=8)
        style.loss_ticks(axes)
    axes.legend(loc="best")
    return axes
