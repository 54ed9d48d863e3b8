"""Draw loss against one quantity, with a line per group of runs and the laws through them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.fit import Fit
from scaling.laws.seeds import repeats
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

POINTS = 80
BEYOND = 3.0  # the laws extend beyond the largest x by this factor


def picture(
    runs: Mapping[str, np.ndarray],
    lines: Mapping[str, Mapping[str, np.ndarray]],
    *,
    x: str,
    line_key: str,
    panels: str = "",
    title: str = "",
    confidence: float = 0.9,
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Return runs, means over seeds, and lines. `x`, `line_key` and `panels` name columns.

    `runs` has the columns run_id, `x`, `line_key`, loss, loss_se and, unless empty, `panels`.
    Series: `run`, `mean` (loss and its standard deviation `sd` over `count` seeds) and those of
    `lines`: `law` and `no repeats`. In `law`, `low` to `high` is the interval of the law and
    `run_low` to `run_high` that of a new run, where known.
    """
    keys = [runs[c] for c in (panels, line_key, x) if c]
    points = repeats(keys, runs["loss"])
    first = points.first_P
    mean = {
        **{c: runs[c][first] for c in (panels, line_key, x) if c},
        "loss": points.mean_P,
        "sd": points.sd_P,
        "count": points.count_P,
        "loss_se": runs["loss_se"][first],
    }
    return Picture(
        stacked({"run": runs, "mean": mean, **lines}),
        partial(
            draw,
            x=x,
            line_key=line_key,
            panels=panels,
            title=title,
            confidence=confidence,
            labels=labels,
        ),
    )


def law_line(law: Fit, *inputs: np.ndarray, columns: Mapping[str, object]) -> dict:
    """Return one group's part of the series `law`: `columns`, the law at `inputs`, intervals."""
    x = np.broadcast_arrays(*inputs)
    means = [law.mean_interval(*at) for at in zip(*x, strict=True)]
    runs = [law.prediction_interval(*at) for at in zip(*x, strict=True)]
    return {
        **columns,
        "loss": np.asarray(law.predict(*inputs)),
        "low": np.array([i.low for i in means]),
        "high": np.array([i.high for i in means]),
        "run_low": np.array([i.low for i in runs]),
        "run_high": np.array([i.high for i in runs]),
    }


def grid(x: np.ndarray) -> np.ndarray:
    """Return the points `[POINTS]` at which to draw a law through runs at `x`."""
    return np.geomspace(x.min(), BEYOND * x.max(), POINTS)


def joined(lines: list[dict]) -> dict[str, np.ndarray]:
    """Join the lines of several groups to one series, repeating the values of a whole line."""
    full = []
    for line in lines:
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v)) for v in line.values()))
        full.append(dict(zip(line, arrays, strict=True)))
    return {name: np.concatenate([line[name] for line in full]) for name in full[0]} if full else {}


def draw(
    columns: Columns,
    x: str,
    line_key: str,
    panels: str,
    title: str,
    confidence: float,
    labels: Mapping[str, str] | None,
) -> Figure:
    """Draw a panel per value of the column `panels`, or a single one if that is empty."""
    kinds = np.unique(part(columns, "mean")[panels]) if panels else [None]
    width = style.WIDTH * (1.0 if len(kinds) == 1 else 1.3)
    figure, axes = style.panels(len(kinds), width=width, height=4.0 if len(kinds) == 1 else 2.9)
    for panel, kind in zip(axes, kinds, strict=True):
        rows = columns
        if kind is not None:
            rows = {name: values[columns[panels] == kind] for name, values in columns.items()}
        _panel(panel, rows, x, line_key, confidence, labels)
        heading = f"{style.symbol(panels)} = {style.count(kind)}" if kind is not None else ""
        panel.set_title(style.mathtext(title) if len(kinds) == 1 and title else heading)
    if len(kinds) > 1 and title:
        figure.suptitle(style.mathtext(title), fontsize=9)
    return figure


def _panel(axes: Axes, columns: Columns, x: str, line_key: str, confidence: float, labels) -> None:
    mean, law, fresh = (part(columns, s) for s in ("mean", "law", "no repeats"))
    axes.set(xscale="log", yscale="log", xlabel=style.label(x, labels))
    axes.set_ylabel(style.label("loss", labels))
    groups = np.unique(mean[line_key])
    alone = len(groups) == 1
    shades = [style.ORANGE] if alone else style.shades(len(groups))
    for group, colour in zip(groups, shades, strict=False):
        group_law = {name: values[law[line_key] == group] for name, values in law.items()}
        if len(group_law[x]):
            _law(axes, group_law, x, style.BLUE if alone else colour, confidence, alone)
        points = {name: values[mean[line_key] == group] for name, values in mean.items()}
        style.seeds(
            axes, points, x, color=colour, label=f"{style.symbol(line_key)} = {style.count(group)}"
        )
    for group, colour in zip(np.unique(fresh[line_key]), shades, strict=False):
        rows = fresh[line_key] == group
        axes.plot(fresh[x][rows], fresh["loss"][rows], ":", color=style.GREY, lw=1.2,
                  label="all tokens fresh" if colour is shades[0] else None)  # fmt: skip
    lowest, highest = mean["loss"].min(), mean["loss"].max()
    if len(law[x]):
        lowest = max(np.nanmin(law["loss"]) / 1.03, 0.3 * lowest)
        highest = max(highest, np.nanmax(law["loss"]))
        axes.axvline(mean[x].max(), color=style.GREY, lw=0.8, ls=":")
    axes.set_ylim(lowest / 1.02, highest * 1.04)
    style.log_ticks(axes, most=6)
    style.loss_ticks(axes)
    axes.legend(fontsize=7)


def _law(axes: Axes, law: Columns, x: str, colour, confidence: float, alone: bool) -> None:
    bands = (("run_low", "run_high", 0.12, "a new run"), ("low", "high", 0.3, "the law"))
    for low, high, alpha, subject in bands if alone else bands[1:]:
        ends = np.clip(np.stack([law[low], law[high]]), 1e-12, 1e12)
        if np.isfinite(ends).all(axis=0).any():
            label = f"{confidence:.0%} interval of {subject}" if alone else None
            axes.fill_between(law[x], *ends, color=colour, alpha=alpha / (1 if alone else 2), lw=0,
                              label=label)  # fmt: skip
    axes.plot(law[x], law["loss"], "-", color=colour, lw=1.4, label="law" if alone else None)
