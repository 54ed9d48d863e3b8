"""Why a fit should not be trusted, in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling.laws.bootstrap import Interval
from scaling.laws.forms.base import Form
from scaling.laws.objective import Objective
from scaling.laws.table import Table

WEAK = "identified"  # the word that marks a warning on identification
EXPONENT_WIDTH = 0.2  # an interval of a product's exponent is narrow below this, also around 0
DOUBTS = ("mixed units", "residuals have structure", "count twice")


def warnings(
    table: Table,
    form: Form,
    values: dict[str, float],
    intervals: dict[str, Interval],
    residuals: np.ndarray,
    reached: float,
    delta: float,
    objective: Objective,
    minima: tuple[float, ...],
    fixed: Mapping[str, float],
) -> list[str]:
    """What to know before believing the fit; empty where nothing speaks against it."""
    found = []
    lowest = float(table[form.target].min())
    no_intervals = not any(np.isfinite(i.se) for i in intervals.values())
    if no_intervals:
        found.append("no intervals (too few refits): whether it is identified is unknown")
    for name in form.judged:
        i = intervals[name]
        if name in fixed or no_intervals:
            continue
        if name == "E" and values[name] < 0.05 * lowest:
            found.append("E is not identified: the fit puts it near 0")
        else:
            found += wide(name, i, EXPONENT_WIDTH if form.product else 0.0)
    if len(minima) > 1 and minima[1] <= 1.02 * minima[0]:
        found.append(
            f"another local minimum lies {minima[1] / max(minima[0], 1e-300) - 1:.2%} above the "
            "lowest objective: the rows hardly tell the two apart"
        )
    if reached < 0.01:
        found.append(f"only {reached:.1%} of the starts reach the optimum")
    typical = float(np.median(np.abs(residuals)))
    if objective.kind == "huber" and not objective.linear and typical > 10 * delta:
        found.append(
            f"Huber delta {delta:g} is far below the typical residual {typical:.2g}: this is an L1 "
            "fit in effect; 0 scales it to the residuals"
        )
    found += structure(table, form, residuals)
    return found


def wide(name: str, i: Interval, narrow: float = 0.0) -> list[str]:
    """A line where the interval is wider than its value, and than `narrow`."""
    if i.high - i.low <= max(abs(i.value), narrow):
        return []
    return [
        f"{name} is weakly identified: interval {i.low:.3g} to {i.high:.3g} around {i.value:.3g}"
    ]


def structure(table: Table, form: Form, residuals: np.ndarray) -> list[str]:
    """Residuals that follow a curve in an input: the form is wrong there.

    A parabola in the log of each input, fitted to the residuals by least squares; F test at 1 in 1000.
    """
    from scipy import stats

    found = []
    n = len(residuals)
    spread = 1.4826 * np.median(np.abs(residuals - np.median(residuals)))
    clipped = np.clip(residuals, -3 * spread, 3 * spread) if spread > 0 else residuals
    for name in dict.fromkeys((*form.inputs, *(["flops"] if "flops" in table else []))):
        x = np.log(table[name])
        x = (x - x.mean()) / max(x.std(), 1e-12)
        if n < 12 or len(np.unique(x)) < 5:
            continue
        design = np.stack([np.ones(n), x, x**2 - 1], axis=1)
        left = clipped - design @ np.linalg.lstsq(design, clipped, rcond=None)[0]
        before, after = float(np.sum((clipped - clipped.mean()) ** 2)), float(np.sum(left**2))
        if after <= 0 or np.sqrt(before / n) < 1e-9:
            continue
        ratio = (before - after) / 2 / (after / (n - 3))
        chance = float(stats.f.sf(ratio, 2, n - 3))
        if chance < 1e-3:
            found.append(
                f"residuals have structure against {name} (a curve explains {1 - after / before:.0%} of "
                f"them, chance {chance:.1g}): plot them before trusting the form"
            )
    return found


def verdict(found: list[str]) -> str:
    """ "weakly identified" before "doubtful" before "good"."""
    if any(WEAK in line for line in found):
        return "weakly identified"
    if any(word in line for line in found for word in DOUBTS):
        return "doubtful"
    return "good"
