"""Diagnose a fit: return notices of its weaknesses and the verdict they lead to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from scaling.laws import checks
from scaling.laws.bootstrap import Interval
from scaling.laws.forms.base import DEAD_FLOOR, Form
from scaling.laws.objective import Objective
from scaling.laws.table import Table
from scaling.utils import notices, precision
from scaling.utils.notices import Notice

BY_CHANCE = 1e-3  # a trend of residuals counts as structure if its chance is below this
EXPONENT_WIDTH = 0.2  # an interval of a product's exponent below this is narrow, even around 0
VERDICTS = {  # by the worst severity of the notices
    notices.WEAK: "weakly identified",
    notices.DOUBT: "doubtful",
    notices.NOTE: "good",
}
MISFIT = 1e-2  # rows of equal inputs contradict the form if its chance is below this


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
) -> list[Notice]:
    """Return notices on weaknesses of the fit, or an empty list."""
    fit_notices: list[Notice] = []
    lowest = float(table[form.target].min())
    no_intervals = not any(np.isfinite(i.se) for i in intervals.values())
    if no_intervals:
        fit_notices.append(no_intervals_notice())
    for name in form.judged:
        i = intervals[name]
        if name in fixed or no_intervals:
            continue
        if name == "E" and values[name] < DEAD_FLOOR * lowest:
            fit_notices.append(
                Notice(notices.NOT_IDENTIFIED, "E is not identified: the fit puts it near 0")
            )
        else:
            fit_notices += wide(name, i, EXPONENT_WIDTH if form.product else 0.0)
    if len(minima) > 1 and minima[1] <= 1.02 * minima[0]:
        fit_notices.append(
            Notice(
                notices.SECOND_MINIMUM,
                f"another local minimum lies {minima[1] / max(minima[0], 1e-300) - 1:.2%} above "
                "the lowest objective: the rows hardly distinguish the two",
            )
        )
    if reached < 0.01:
        text = f"only {reached:.1%} of the starts reach the optimum"
        fit_notices.append(Notice(notices.RARE_OPTIMUM, text))
    typical = float(np.median(np.abs(residuals)))
    has_threshold = objective.kind in ("huber", "likelihood") and not objective.linear
    if has_threshold and typical > 10 * delta:
        fit_notices.append(
            Notice(
                notices.L1_IN_EFFECT,
                f"Huber delta {delta:g} is far below the typical residual {typical:.2g}: this is "
                "an L1 fit in effect; set it to 0 to scale it to the residuals",
            )
        )
    fit_notices += structure(table, form, residuals)
    chance = lack_of_fit(table, form, residuals, form_size=len(form.parameters) - len(fixed))
    if chance < MISFIT:
        fit_notices.append(
            Notice(
                notices.LACK_OF_FIT,
                "lack of fit: the law misses rows of equal inputs by more than they differ (chance "
                f"{chance:.1g}); the form does not hold over all of these rows; fit only those "
                "near your target",
            )
        )
    return fit_notices


def lack_of_fit(table: Table, form: Form, residuals_N: np.ndarray, form_size: int) -> float:
    """Return the chance of residuals `[N]` this large if the form were right, from repeated inputs.

    An F test compares the mean residuals of rows with equal inputs with the scatter about them
    (Fisher 1922; Draper & Smith 1998, section 2.1). The chance is 1 if no inputs repeat or groups
    are fewer than parameters.
    """
    from scipy import stats

    logs_NF = np.stack([np.log(table[name]) for name in form.inputs], axis=1)
    rows_NF = np.column_stack([np.round(logs_NF, checks.DIGITS), table[form.target]])
    # a row entered twice is not a second run
    _, unique_rows = np.unique(rows_NF, axis=0, return_index=True)
    residuals_N = residuals_N[unique_rows]
    _, member_N = np.unique(rows_NF[unique_rows, :-1], axis=0, return_inverse=True)
    member_N = member_N.reshape(-1)
    count_G = np.bincount(member_N)
    law_freedom, scatter_freedom = len(count_G) - form_size, len(residuals_N) - len(count_G)
    if law_freedom < 1 or scatter_freedom < 2:
        return 1.0
    mean_G = np.bincount(member_N, residuals_N) / count_G
    scatter = float(np.sum((residuals_N - mean_G[member_N]) ** 2)) / scatter_freedom
    misfit = float(np.sum(count_G * mean_G**2)) / law_freedom
    return float(stats.f.sf(misfit / max(scatter, 1e-300), law_freedom, scatter_freedom))


def no_intervals_notice() -> Notice:
    """Return the notice on a fit whose refits are too few for intervals."""
    return Notice(
        notices.NO_INTERVALS, "no intervals (too few refits): the fit may not be identified"
    )


def wide(name: str, i: Interval, narrow: float = 0.0) -> list[Notice]:
    """Return a notice if the interval is wider than its value and than `narrow`."""
    if i.high - i.low <= max(abs(i.value), narrow):
        return []
    value, low, high = precision.texts(i.value, i.low, i.high)
    text = f"{name} is weakly identified: interval {low} to {high} around {value}"
    return [Notice(notices.WIDE_INTERVAL, text)]


@dataclass(frozen=True)
class Trend:
    """A parabola in the log of an input through residuals, and its significance."""

    centre: float  # mean and standard deviation of log x
    scale: float
    coefficients: np.ndarray  # of 1, z and z^2 - 1, z = (log x - centre) / scale
    share: float  # share of the residuals' squares that the parabola explains
    chance: float  # chance of an F at least as large without any trend

    def at(self, x) -> np.ndarray:
        """Return the trend of the log residual at inputs `x`."""
        return _parabola((np.log(x) - self.centre) / self.scale) @ self.coefficients


def _parabola(z_N: np.ndarray) -> np.ndarray:
    return np.stack([np.ones(len(z_N)), z_N, z_N**2 - 1], axis=1)


def trend(x_N: np.ndarray, residuals_N: np.ndarray) -> Trend | None:
    """Fit a parabola to residuals `[N]` against log x `[N]` and test it by F.

    Residuals are clipped at three robust standard deviations. The trend is None for fewer than 12
    rows or 5 distinct inputs, or for residuals that are only rounding.
    """
    from scipy import stats

    n = len(residuals_N)
    spread = 1.4826 * np.median(np.abs(residuals_N - np.median(residuals_N)))
    clipped = np.clip(residuals_N, -3 * spread, 3 * spread) if spread > 0 else residuals_N
    centre, scale = float(np.log(x_N).mean()), max(float(np.log(x_N).std()), 1e-12)
    z_N = (np.log(x_N) - centre) / scale
    if n < 12 or len(np.unique(z_N)) < 5:
        return None
    design = _parabola(z_N)
    coefficients = np.linalg.lstsq(design, clipped, rcond=None)[0]
    rest = clipped - design @ coefficients
    before, after = float(np.sum((clipped - clipped.mean()) ** 2)), float(np.sum(rest**2))
    if after <= 0 or np.sqrt(before / n) < 1e-9:
        return None
    ratio = (before - after) / 2 / (after / (n - 3))
    chance = float(stats.f.sf(ratio, 2, n - 3))
    return Trend(centre, scale, coefficients, 1 - after / before, chance)


def scales(table: Table, form: Form) -> tuple[str, ...]:
    """Return the columns to compare residuals with: the form's inputs, and compute if known."""
    return tuple(dict.fromkeys((*form.inputs, *(["flops"] if "flops" in table else []))))


def structure(table: Table, form: Form, residuals: np.ndarray) -> list[Notice]:
    """Return notices on residuals that follow a curve in an input (F test at 1 in 1000)."""
    trend_notices = []
    for name in scales(table, form):
        curve = trend(table[name], residuals)
        if curve and curve.chance < BY_CHANCE:
            trend_notices.append(
                Notice(
                    notices.STRUCTURED_RESIDUALS,
                    f"residuals have structure against {name} (a curve explains {curve.share:.0%} "
                    f"of them, chance {curve.chance:.1g}): plot them before trusting the form",
                )
            )
    return trend_notices


def verdict(fit_notices: Iterable[Notice]) -> str:
    """Return "weakly identified", "doubtful" or "good", by the worst severity of the notices."""
    return VERDICTS[notices.worst(fit_notices)]
