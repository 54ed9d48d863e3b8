"""Draw exponents of the optimum under several conventions: a dot and an interval per line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from scaling.laws.conventions import ISOFLOP, Exponents
from scaling.report.picture import Columns, Picture
from scaling.report.style import BLUE, GREEN, GREY, ORANGE
from scaling.utils import precision

PUBLISHED = {"Hoffmann 2022": (0.50, GREEN), "Kaplan 2020": (0.73, GREY)}  # a; et al. each
WORDS = {
    "n_params": "N without embeddings and head",
    "n_params_active": "N that a token uses",
    "n_params_with_head": "N with head",
    "n_params_total": "N with embeddings and head",
}
LINE = 0.29  # inches


def picture(rows: Sequence[Exponents], title: str, split: str, confidence: float) -> Picture:
    """Return the comparison of `rows`. `split` describes the labels of the lines."""
    drawn = partial(draw, title=title, split=split, confidence=confidence)
    return Picture(columns(rows), drawn)


def columns(rows: Sequence[Exponents]) -> Columns:
    """Return one row per line, top to bottom, with the columns of the printed table."""
    table: dict[str, list[Any]] = {
        name: [getattr(r, name) for r in rows]
        for name in ("label", "n_params", "flops", "estimator")
    }
    for name in ("a", "b"):
        table[name] = [getattr(r, name).value for r in rows]
        table[f"{name}_low"] = [getattr(r, name).low for r in rows]
        table[f"{name}_high"] = [getattr(r, name).high for r in rows]
    table["minima"] = [r.minima for r in rows]
    table["budgets"] = [r.budgets for r in rows]
    table["refused"] = [r.refused for r in rows]
    table["notes"] = ["; ".join(r.notes) for r in rows]
    return {name: np.array(values) for name, values in table.items()}


def draw(table: Columns, title: str, split: str, confidence: float) -> Axes:
    """Draw a and its interval on every line. `split` describes the labels of the lines."""
    y, ticks, headings = _layout(table)
    _, axes = plt.subplots(figsize=(8.4, 1.35 + LINE * (max(y) + 2)))
    across: Any = {"transform": axes.get_yaxis_transform(), "va": "center"}
    for i, estimator in enumerate(table["estimator"]):
        a, low, high = (table[k][i] for k in ("a", "a_low", "a_high"))
        if not np.isfinite(a):
            axes.text(1.02, y[i], "no fit, see the table", color=GREY, fontsize=9, **across)
            continue
        profiles = estimator == ISOFLOP
        colour = BLUE if profiles else ORANGE
        axes.plot([low, high], [y[i], y[i]], "-", color=colour, lw=2.2, solid_capstyle="round")
        axes.plot(a, y[i], "o" if profiles else "D", color=colour, ms=7 if profiles else 6)
        axes.text(1.02, y[i], precision.with_interval(a, low, high), fontsize=9, **across)
    for name, (value, colour) in PUBLISHED.items():
        axes.axvline(value, color=colour, lw=1.2, ls="--", zorder=0)
        above: Any = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        axes.annotate(f"{name}\n{value:.2f}", (value, 1), (0, 3), color=colour, fontsize=8,
                      ha="center", va="bottom", **above)  # fmt: skip
    axes.set_yticks(y, ticks)
    for place, text in headings:
        axes.text(-0.015, place, text, fontsize=10, fontweight="bold", ha="right", **across)
    axes.text(-0.015, -1, split, fontsize=8, color=GREY, ha="right", **across)
    axes.text(1.02, -1, f"a       [{confidence:.0%} interval]", fontsize=8, color=GREY, **across)
    if not headings:  # steps of one path
        axes.plot(table["a"], y, "-", color=GREY, lw=1, alpha=0.6, zorder=1)
    axes.set_xlim(*_limits(table))
    axes.set_ylim(max(y) + 0.7, -0.7)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    axes.set_xlabel("exponent a of the compute-optimal size, N* ~ C$^a$")
    axes.set_title(f"How the exponent moves: {title}", loc="left", fontsize=11, pad=30)
    return axes


def _layout(table: Columns) -> tuple[list[float], list[str], list[tuple[float, str]]]:
    """Return the position of each line, its label, and the headings with positions."""
    names = [k for k in ("label", "n_params", "flops") if len(set(table[k])) > 1] or ["n_params"]
    above, own = names[:-1], names[-1]
    places: list[float] = []
    headings: list[tuple[float, str]] = []
    heading, place = "", -1.0
    for i in range(len(table["a"])):
        text = ", ".join(WORDS.get(table[k][i], str(table[k][i])) for k in above)
        if text != heading:
            place, heading = place + 1.2, text
            headings.append((place, text))
        place += 1
        places.append(place)
    laws = [e if e != ISOFLOP else "" for e in table["estimator"]]
    ticks = [
        f"{law} at cost {text}" if law else text for law, text in zip(laws, table[own], strict=True)
    ]
    return places, ticks, headings


def _limits(table: Columns) -> tuple[float, float]:
    """Return limits that hold both published values and every dot. Long intervals are cut off."""
    shown = [v for v in table["a"] if np.isfinite(v)] + [v for v, _ in PUBLISHED.values()]
    low, high = min(shown), max(shown)
    ends = [v for k in ("a_low", "a_high") for v in table[k] if np.isfinite(v)]
    reach = 0.6 * (high - low)
    return (
        max(min([low, *ends]), low - reach) - 0.02,
        min(max([high, *ends]), high + reach) + 0.02,
    )
