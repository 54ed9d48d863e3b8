"""Draw loss against every swept key in a panel each, with optima and diverged runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

MARGIN = 0.1  # of the range of losses, above and below
STEEP = 3.0  # cut off losses whose excess is above this many times the median excess


def picture(
    settings: Mapping[str, np.ndarray],
    axes: Mapping[str, Mapping[str, Any]],
    optima: Mapping[str, Mapping[str, np.ndarray]],
    diverged: Mapping[str, np.ndarray],
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Return settings, optima and diverged runs. `settings` has one row per setting.

    Its columns: run_id, one per name in `axes`, loss, sd, count, loss_se. `axes` holds the `label`
    of each axis and, if its values are text, the `texts` of its ticks. Series: `setting`,
    `optimum of <axis>` (columns at, low, high, loss), `diverged` (columns of the axes).
    """
    series: dict[str, Mapping[str, Any]] = {"setting": settings}
    series |= {f"optimum of {name}": rows for name, rows in optima.items() if len(rows["at"])}
    if any(len(v) for v in diverged.values()):
        series["diverged"] = diverged
    return Picture(stacked(series), partial(draw, axes=axes, labels=labels))


def draw(
    columns: Columns, axes: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str] | None
) -> Figure:
    """Draw a panel per axis. Without axes, draw losses against the number of seeds."""
    if not axes:
        axes = {"count": {"label": "number of seeds", "texts": []}}
    width = style.WIDTH * (1.0 if len(axes) == 1 else 1.3)
    figure, places = style.panels(
        len(axes), width=width, height=4.0 if len(axes) == 1 else 2.9, share_y=True
    )
    for place, (name, axis) in zip(places, axes.items(), strict=True):
        _panel(place, columns, name, axis)
    for place in places:
        if place.get_subplotspec().is_first_col():
            place.set_ylabel(style.label("loss", labels))
    places[0].legend(fontsize=7)
    return figure


def _panel(axes: Axes, columns: Columns, name: str, axis: Mapping[str, Any]) -> None:
    runs = part(columns, "setting")
    values = np.unique(runs[name])
    best = np.array(
        [np.flatnonzero(runs[name] == v)[runs["loss"][runs[name] == v].argmin()] for v in values]
    )
    others = np.setdiff1d(np.arange(len(runs["loss"])), best)
    diverged = part(columns, "diverged")
    crosses = diverged[name][np.isfinite(diverged[name])] if name in diverged else np.empty(0)
    _scale(axes, np.unique(np.concatenate([values, crosses])), axis["texts"])
    if len(best) < len(runs["loss"]):
        style.seeds(
            axes, {k: v[others] for k, v in runs.items()}, name, color=style.GREY, alpha=0.5,
            label="other settings", ms=3.5,
        )  # fmt: skip
        if not axis["texts"]:
            axes.plot(values, runs["loss"][best], "-", color=style.BLUE, lw=1.2)
    label = "best at this value" if len(best) < len(runs["loss"]) else "setting"
    style.seeds(axes, {k: v[best] for k, v in runs.items()}, name, color=style.BLUE, label=label)
    optima = part(columns, f"optimum of {name}")
    if "at" in optima and len(optima["at"]):
        ends = np.stack([optima["at"] - optima["low"], optima["high"] - optima["at"]])
        ends = np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0)
        axes.errorbar(
            optima["at"], optima["loss"], xerr=ends, fmt="*", color=style.RED, ms=10, mec="white",
            mew=0.5, capsize=2, elinewidth=1, zorder=5, label="optimum of a parabola",
        )  # fmt: skip
    if len(crosses):
        axes.plot(crosses, np.full(len(crosses), 0.98), "x", color=style.RED, ms=5,
                  transform=axes.get_xaxis_transform(), label="diverged")  # fmt: skip
    axes.set_xlabel(axis["label"], fontsize=9)
    axes.set_ylim(*_view(runs["loss"]))


def _scale(axes: Axes, values: np.ndarray, texts: list[str]) -> None:
    """Scale the x axis: logarithmic beyond a factor of 4, texts at whole numbers."""
    if texts:
        axes.set_xticks(range(len(texts)), texts, fontsize=8)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    elif values.min() > 0 and values.max() > 4 * values.min():
        axes.set(xscale="log", xlim=(values.min() / 1.4, values.max() * 1.4))
        style.log_ticks(axes)
    elif values.min() == 0 and len(values) > 2 and values.max() > 4 * values[1]:
        axes.set_xscale("symlog", linthresh=values[1])


def _view(loss: np.ndarray) -> tuple[float, float]:
    """Return y limits that cut off losses far above the others, so that the valley shows."""
    excess = loss - loss.min()
    top = loss.min() + min(excess.max(), STEEP * max(float(np.median(excess)), 1e-3))
    margin = max(top - loss.min(), 1e-3) * MARGIN
    return loss.min() - margin, top + 2 * margin
