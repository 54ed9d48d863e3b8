"""Draw the parameters of bootstrap refits in pairs, with the fit to all runs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.fit import Fit
from scaling.laws.forms.base import Form
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

PAIRS = {
    "chinchilla": (("alpha", "beta"), ("E", "a")),
    "chinchilla_tied": (("alpha", "E"), ("A", "B")),
    "kaplan": (("alpha_N", "alpha_D"), ("N_c", "D_c")),
    "over_training": (("eta", "E"), ("a", "b")),
    "data_constrained": (("alpha", "beta"), ("R_D", "R_N")),
}
SHOWN = 98.0  # central percentage of the finite refits that the axes cover
WIDE = 20.0  # an axis whose ends differ by more than this factor is logarithmic
SAME = 1e-6  # refits within this relative width count as equal
SYMBOLS = {
    "alpha": r"$\alpha$",
    "beta": r"$\beta$",
    "eta": r"$\eta$",
    "gamma": r"$\gamma$",
    "eps": r"$\epsilon$",
    "alpha_N": r"$\alpha_N$",
    "alpha_D": r"$\alpha_D$",
    "N_c": "$N_c$, parameters",
    "D_c": "$D_c$, tokens",
    "R_D": r"$R_D^*$, repetitions of the data",
    "R_N": r"$R_N^*$, excess of parameters",
    "E": "$E$, nats/token",
    "L0": "$L_0$, nats/token",
}


def pairs(form: Form) -> tuple[tuple[str, str], ...]:
    """Return the pairs of parameters to draw: first those that judge the fit, then the others."""
    if form.name in PAIRS:
        return PAIRS[form.name]
    names = [*form.judged, *(p for p in form.parameters if p not in form.judged)]
    if len(names) == 2:
        return ((names[0], names[1]),)
    return (names[0], names[1]), (names[-2], names[-1])


FARTHEST = 1e20  # the axes reach at most this factor from the optimum


def picture(law: Fit, labels: Mapping[str, str] | None = None) -> Picture:
    """Return all parameters of all refits, the optimum and the ends of its intervals.

    Series: `refit`, `optimum`, `low`, `high`. `labels` override the usual symbols of parameters.
    """
    natural_BP = law.draws
    refits = {name: natural_BP[:, i] for i, name in enumerate(law.form.parameters)}
    if "a" in law.intervals and "a" not in refits:
        refits["a"] = refits["beta"] / (refits["alpha"] + refits["beta"])
    columns = stacked(
        {
            "refit": refits,
            "optimum": {name: law.intervals[name].value for name in refits},
            "low": {name: law.intervals[name].low for name in refits},
            "high": {name: law.intervals[name].high for name in refits},
        }
    )
    symbols = {**SYMBOLS, **(labels or {})}
    if "a" not in law.form.parameters:
        symbols["a"] = r"$a$ of $N^* \propto C^a$"
    return Picture(
        columns,
        partial(draw, pairs=pairs(law.form), symbols=symbols, confidence=law.confidence),
    )


def draw(
    columns: Columns, pairs: tuple[tuple[str, str], ...], symbols: dict[str, str], confidence: float
) -> Figure:
    """Draw a panel per pair, with the interval of each parameter along its axis."""
    figure, axes = style.panels(
        len(pairs), height=3.5, width=style.WIDTH if len(pairs) > 1 else 3.9
    )
    refits, optimum = part(columns, "refit"), part(columns, "optimum")
    for panel, (x, y) in zip(axes, pairs, strict=True):
        ends = {name: _window(columns, name) for name in (x, y)}
        panel.plot(
            *(_inside(refits[n], *ends[n]) for n in (x, y)),
            "o",
            color=style.BLUE,
            ms=3,
            alpha=0.35,
            mew=0,
            rasterized=True,
        )
        panel.plot(
            optimum[x], optimum[y], "*", color=style.RED, ms=13, mec="white", mew=0.8, zorder=5
        )
        for name, which in ((x, "x"), (y, "y")):
            low, high = ends[name]
            if low > 0 and high > WIDE * low:
                getattr(panel, f"set_{which}scale")("log")
            getattr(panel, f"set_{which}lim")(low, high)
            getattr(panel, f"set_{which}label")(symbols.get(name, f"${name}$"))
            if low > 0 and high > WIDE * low:
                style.log_ticks(panel, which, most=4)
            else:
                panel.locator_params(axis=which, nbins=5)
            _interval(panel, columns, name, which)
        note = _outside(refits, ends, (x, y))
        if note:
            panel.set_title(note, fontsize=8, color="0.3")
    handles = [
        axes[0].plot([], [], "o", color=style.BLUE, ms=4)[0],
        axes[0].plot([], [], "*", color=style.RED, ms=10)[0],
        axes[0].plot([], [], "-", color=style.ORANGE, lw=4)[0],
    ]
    names = [
        f"{len(refits['series'])} refits to resampled runs",
        "fit to all runs",
        f"{confidence:.0%} interval",
    ]
    figure.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=3 if len(pairs) > 1 else 1,
        columnspacing=1.4,
    )
    return figure


def _inside(draws: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the draws within the axis limits, NaN for the others."""
    return np.where((draws >= low) & (draws <= high), draws, np.nan)


def _interval(panel: Axes, columns: Columns, name: str, which: str) -> None:
    """Draw the marginal interval as a bar along the axis, clipped to the axis limits."""
    low, high = (float(part(columns, end)[name][0]) for end in ("low", "high"))
    if np.isnan(low) or np.isnan(high):
        return
    view = panel.get_xlim() if which == "x" else panel.get_ylim()
    span = list(np.clip((low, high), *view))
    bar: dict[str, Any] = {
        "color": style.ORANGE,
        "lw": 4,
        "solid_capstyle": "butt",
        "clip_on": False,
        "zorder": 4,
    }
    if which == "x":
        panel.plot(span, [0, 0], transform=panel.get_xaxis_transform(), **bar)
    else:
        panel.plot([0, 0], span, transform=panel.get_yaxis_transform(), **bar)


def _window(columns: Columns, name: str) -> tuple[float, float]:
    """Return axis limits: the central part of the finite refits and the optimum, with a margin."""
    draws = part(columns, "refit")[name]
    finite = draws[np.isfinite(draws)]
    covered = [*part(columns, "optimum")[name]]
    if len(finite):
        covered += [*np.percentile(finite, [50 - SHOWN / 2, 50 + SHOWN / 2])]
    low, high = float(np.min(covered)), float(np.max(covered))
    best = float(covered[0])
    if low > 0 and best > 0:  # a parameter that diverges would squeeze the rest
        low, high = max(low, best / FARTHEST), min(high, best * FARTHEST)
    if low > 0 and high > WIDE * low:
        margin = (high / low) ** 0.06
        return low / margin, high * margin
    largest = max(abs(low), abs(high))
    if high - low <= SAME * largest:  # held fixed, or independent of the table
        return low - 0.1 * largest - 1e-300, high + 0.1 * largest + 1e-300
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _outside(refits: Columns, ends: dict[str, tuple[float, float]], names) -> str:
    """Return how many refits the axes leave out, in words, or "" for none."""
    draws = np.stack([refits[n] for n in names])
    lost = np.isnan(draws).any(axis=0)
    limits = np.array([ends[n] for n in names])
    out = ~lost & ((draws < limits[:, :1]) | (draws > limits[:, 1:])).any(axis=0)
    infinite = out & np.isinf(draws).any(axis=0)
    parts = []
    if out.any():
        parts.append(
            f"{out.sum()} refits outside"
            + (f", {infinite.sum()} at infinity" if infinite.any() else "")
        )
    if lost.any():
        parts.append(f"{lost.sum()} refits failed")
    return "; ".join(parts)
