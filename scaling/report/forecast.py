"""Draw a combined forecast: the backtest of each form, and its expectations of new runs."""

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


def backtest(combined: Combined) -> Picture:
    """Return columns `form`, `weight`, `held_back` (share of the runs) and `rms_log_error`."""
    rows = [
        (name, combined.weights[name], share, error)
        for name, errors in combined.errors.items()
        for share, error in zip(combined.backtest, errors, strict=True)
    ]
    names = ("form", "weight", "held_back", "rms_log_error")
    columns = {n: np.array([r[i] for r in rows]) for i, n in enumerate(names)}
    return Picture(columns, draw_backtest)


def draw_backtest(columns: Columns) -> Axes:
    """Draw the error of each form against the share of runs held back."""
    axes = style.panels(1, height=3.4, width=5.2)[1][0]
    for name, colour in style.colours(columns["form"]).items():
        rows = columns["form"] == name
        axes.plot(
            100 * columns["held_back"][rows], 100 * columns["rms_log_error"][rows], "o-",
            color=colour, label=f"{name}, weight {columns['weight'][rows][0]:.2f}",
        )  # fmt: skip
    axes.set(
        title="Backtest: fit the cheaper runs, predict the dearer",
        xlabel="runs held back, % of all, dearest first",
        ylabel="root mean square error\nof log loss, %",
    )
    axes.set_ylim(bottom=0)
    axes.set_xticks(100 * np.unique(columns["held_back"]))
    axes.legend()
    return axes


def points(
    combined: Combined, inputs: Sequence[tuple[float, ...]], names: Sequence[str]
) -> Picture:
    """Return the losses that every form and their combination expect of new runs at `inputs`.

    `names` are the columns of the inputs. `low` to `high` is the interval of a new run's loss.
    """
    rows = []
    for i, point in enumerate(inputs):
        for form, law in combined.fits.items():
            rows.append((*point, form, combined.weights[form], law.prediction_interval(*point)))
        rows.append((*point, COMBINED, 1.0, combined.intervals[i]))
    columns = {n: np.array([r[i] for r in rows]) for i, n in enumerate((*names, "form", "weight"))}
    for key, part in (("loss", "value"), ("low", "low"), ("high", "high")):
        columns[key] = np.array([getattr(r[-1], part) for r in rows])
    confidence = next(iter(combined.fits.values())).confidence
    return Picture(columns, partial(draw_points, names=tuple(names), confidence=confidence))


def draw_points(
    columns: Columns,
    names: tuple[str, ...],
    confidence: float,
    labels: Mapping[str, str] | None = None,
) -> Figure:
    """Draw a group of lines per point, with one interval per form."""
    forms = list(dict.fromkeys(columns["form"]))
    groups = list(dict.fromkeys(zip(*(columns[n] for n in names), strict=True)))
    height = 1.3 + 0.28 * len(columns["form"]) + 0.25 * len(groups)
    figure, (axes,) = style.panels(1, width=5.6, height=height)
    colour = style.colours(forms) | {COMBINED: style.RED}
    ticks, y = {}, 0.0
    for group in groups:
        rows = np.all([columns[n] == v for n, v in zip(names, group, strict=True)], axis=0)
        symbols = {"n_params": "N", "tokens": "D"}
        texts = (f"{symbols.get(n, n)} = {v:.3g}" for n, v in zip(names, group, strict=True))
        ticks[y] = ", ".join(texts).replace("e+", "e")
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
