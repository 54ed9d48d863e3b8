"""A combined forecast: how each form did on runs held back, and what each expects of new runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.forecast import Combined
from scaling.report import style
from scaling.report.picture import Columns, Picture

COMBINED = "combined"


def backtest(found: Combined) -> Picture:
    """Columns: `form`, its `weight`, `held_back` (share of the runs) and `rms_log_error` there."""
    rows = [
        (name, found.weights[name], share, error)
        for name, errors in found.errors.items()
        for share, error in zip(found.backtest, errors, strict=True)
    ]
    names = ("form", "weight", "held_back", "rms_log_error")
    columns = {n: np.array([r[i] for r in rows]) for i, n in enumerate(names)}
    return Picture(columns, draw_backtest)


def draw_backtest(columns: Columns) -> Axes:
    axes = style.panels(1, height=3.4, width=5.2)[1][0]
    for name, colour in style.colours(columns["form"]).items():
        rows = columns["form"] == name
        axes.plot(
            100 * columns["held_back"][rows], 100 * columns["rms_log_error"][rows], "o-",
            color=colour, label=f"{name}, weight {columns['weight'][rows][0]:.2f}",
        )  # fmt: skip
    axes.set(
        title="Backtest: fitted to the cheaper runs, asked for the dearer",
        xlabel="runs held back, % of all, dearest first",
        ylabel="root mean square error\nof log loss, %",
    )
    axes.set_ylim(bottom=0)
    axes.set_xticks(100 * np.unique(columns["held_back"]))
    axes.legend()
    return axes


def points(found: Combined, inputs: Sequence[tuple[float, ...]], names: Sequence[str]) -> Picture:
    """What every form and their combination expect of new runs at `inputs`, in columns `names`.

    `low` to `high` holds the loss of a new run.
    """
    rows = []
    for i, point in enumerate(inputs):
        for form, law in found.fits.items():
            rows.append((*point, form, found.weights[form], law.prediction_interval(*point)))
        rows.append((*point, COMBINED, 1.0, found.intervals[i]))
    columns = {n: np.array([r[i] for r in rows]) for i, n in enumerate((*names, "form", "weight"))}
    for key, part in (("loss", "value"), ("low", "low"), ("high", "high")):
        columns[key] = np.array([getattr(r[-1], part) for r in rows])
    confidence = next(iter(found.fits.values())).confidence
    return Picture(columns, partial(draw_points, names=tuple(names), confidence=confidence))


def draw_points(
    columns: Columns,
    names: tuple[str, ...],
    confidence: float,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    forms = list(dict.fromkeys(columns["form"]))
    groups = list(dict.fromkeys(zip(*(columns[n] for n in names), strict=True)))
    height = 1.3 + 0.28 * len(columns["form"]) + 0.25 * len(groups)
    figure, (axes,) = style.panels(1, width=5.6, height=height)
    colour = style.colours(forms) | {COMBINED: style.RED}
    ticks, y = {}, 0.0
    for group in groups:
        rows = np.all([columns[n] == v for n, v in zip(names, group, strict=True)], axis=0)
        symbols = {"n_params": "N", "tokens": "D"}
        what = (f"{symbols.get(n, n)} = {v:.3g}" for n, v in zip(names, group, strict=True))
        ticks[y] = ", ".join(what).replace("e+", "e")
        for i in np.flatnonzero(rows):
            y -= 1.0
            name, value = columns["form"][i], columns["loss"][i]
            sides = np.array([[value - columns["low"][i]], [columns["high"][i] - value]])
            axes.errorbar(
                value, y, xerr=np.where(np.isfinite(sides), np.maximum(sides, 0), 0),
                fmt="D" if name == COMBINED else "o", color=colour[name], capsize=3, ms=5,
            )  # fmt: skip
            weight = "" if name == COMBINED else f", weight {columns['weight'][i]:.2f}"
            ticks[y] = f"{name}{weight}"
        y -= 1.4
    axes.set_yticks(list(ticks), list(ticks.values()))
    for tick, text in zip(axes.yaxis.get_major_ticks(), ticks.values(), strict=True):
        if "=" in text:
            tick.label1.set_fontweight("bold")
            tick.tick1line.set_visible(False)
            tick.gridline.set_visible(False)
    axes.set_ylim(y + 0.7, 0.7)
    axes.set_xlabel(f"{style.label('loss', labels)}, {confidence:.0%} intervals of a new run")
    return figure
