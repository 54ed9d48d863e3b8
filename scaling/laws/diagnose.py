"""Diagnose a fit: return notices of its weaknesses and the verdict they lead to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scaling.laws import checks, residual_tests, structure_tests
from scaling.laws.bootstrap import Interval
from scaling.laws.covariance import jacobian
from scaling.laws.distributions import f_above
from scaling.laws.evidence import JUDGED, Evidence
from scaling.laws.forms.base import DEAD_FLOOR, Form
from scaling.laws.multistart import log_prediction
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
TAIL = 5  # refits beyond each end of an interval, at least
FAILED = 0.1  # share of refits without a law in the form's domain that lowers the verdict
RISE = 1e-6  # slope d log target / d log input that counts as a rise
MISFIT = 1e-2  # rows of equal inputs contradict the form if its chance is below this


def warnings(seen: Evidence) -> list[Notice]:
    """Return notices on weaknesses of the fit, or an empty list."""
    table, form, residuals = seen.table, seen.form, seen.residuals
    fit_notices = [*_identified(seen), *_minimum(seen), *_rising(seen)]
    typical = float(np.median(np.abs(residuals)))
    has_threshold = seen.objective.kind in ("huber", "likelihood") and not seen.objective.linear
    if has_threshold and typical > 10 * seen.delta:
        fit_notices.append(
            Notice(
                notices.L1_IN_EFFECT,
                f"Huber delta {seen.delta:g} is far below the typical residual {typical:.2g}: this "
                "is an L1 fit in effect; set it to 0 to scale it to the residuals",
            )
        )
    fit_notices += structure(table, form, residuals)
    if seen.objective.quantile == 0.5:
        linear = residual_tests.linear(residuals, _slopes(seen))
        fit_notices += [
            *residual_tests.of_rows(table, linear, form.target),
            *structure_tests.of_rows(table, linear, checks.scale(table, form), form.target),
        ]
    form_size = len(form.parameters) - len(seen.fixed)
    chance = lack_of_fit(table, form, residuals, form_size=form_size)
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


def _slopes(seen: Evidence) -> np.ndarray:
    """Return `[N, P]` slopes of the log prediction in the fitted parameters."""
    free_P = [name not in seen.fixed for name in seen.form.parameters]
    return jacobian(seen.form, seen.params_P, _logs(seen.table, seen.form))[:, free_P]


def _logs(table: Table, form: Form) -> np.ndarray:
    return np.log(np.stack([table[name] for name in form.inputs], axis=1))


def _identified(seen: Evidence) -> list[Notice]:
    """Return notices on parameters that the rows or the refits do not determine."""
    form, values, intervals = seen.form, seen.values, seen.intervals
    fit_notices: list[Notice] = []
    lowest = float(seen.table[form.target].min())
    no_intervals = not any(np.isfinite(i.se) for i in intervals.values())
    if no_intervals:
        fit_notices.append(no_intervals_notice())
    else:
        fit_notices += few_resamples(seen.refits, seen.confidence)
    if seen.failed > FAILED and seen.refits:
        text = f"{seen.failed:.0%} of the refits find no law in the form's domain"
        fit_notices.append(Notice(notices.FAILED_REFITS, text))
    if seen.dead:
        text = (
            f"{' and '.join(seen.dead)} {'are' if len(seen.dead) > 1 else 'is'} not identified: "
            "their term vanishes in these rows, so any other value fits as well"
        )
        fit_notices.append(Notice(notices.NOT_IDENTIFIED, text))
    for name in form.judged:
        i = intervals[name]
        if name in seen.fixed or no_intervals or name in seen.dead:
            continue
        if name == "E" and values[name] < DEAD_FLOOR * lowest:
            fit_notices.append(
                Notice(notices.NOT_IDENTIFIED, "E is not identified: the fit puts it near 0")
            )
        else:
            fit_notices += wide(name, i, EXPONENT_WIDTH if form.product else 0.0)
    return fit_notices


def _minimum(seen: Evidence) -> list[Notice]:
    """Return notices on the search for the lowest objective."""
    fit_notices, minima = [], seen.minima
    if len(minima) > 1 and minima[1] <= 1.02 * minima[0]:
        fit_notices.append(
            Notice(
                notices.SECOND_MINIMUM,
                f"another local minimum lies {minima[1] / max(minima[0], 1e-300) - 1:.2%} above "
                "the lowest objective: the rows hardly distinguish the two",
            )
        )
    if seen.reached < 0.01:
        text = f"only {seen.reached:.1%} of the starts reach the optimum"
        fit_notices.append(Notice(notices.RARE_OPTIMUM, text))
    return fit_notices


def _rising(seen: Evidence) -> list[Notice]:
    """Return notices on a loss that rises with an input, or an error that falls with the loss."""
    form, table = seen.form, seen.table
    found = []
    if seen.rising:
        text = (
            f"a law that rises ({seen.rising}) fits these rows much better: the {form.target} does "
            f"not fall with {' and '.join(form.inputs)} everywhere; look at the largest runs"
        )
        found.append(Notice(notices.RISING_LAW, text))
    if form.product or form.target not in ("loss", "error"):
        return found
    logs_NF = _logs(table, form)
    for i, name in enumerate(form.inputs):
        move_F = 1e-3 * (np.arange(len(form.inputs)) == i)
        slope_N = log_prediction(form, seen.params_P[None], logs_NF + move_F)[0]
        slope_N = (slope_N - log_prediction(form, seen.params_P[None], logs_NF)[0]) / 1e-3
        rows = int(np.sum(-slope_N > RISE if name == "loss" else slope_N > RISE))
        if rows:
            verb = "falls" if name == "loss" else "rises"
            text = f"the law's {form.target} {verb} with {name} at {rows} of {len(table)} rows"
            found.append(Notice(notices.RISING_LAW, text))
    return found


def few_resamples(refits: int, confidence: float) -> list[Notice]:
    """Return a notice if fewer than `TAIL` refits lie beyond each end of an interval."""
    needed = int(np.ceil(2 * TAIL / (1 - confidence) - 1e-9))
    if refits >= needed:
        return []
    text = (
        f"{refits} refits are few for {confidence:.0%} intervals; take {needed} or more, better "
        f"{max(JUDGED, 5 * needed)} (--bootstrap)"
    )
    return [Notice(notices.FEW_RESAMPLES, text)]


def lack_of_fit(table: Table, form: Form, residuals_N: np.ndarray, form_size: int) -> float:
    """Return the chance of residuals `[N]` this large if the form were right, from repeated inputs.

    An F test compares the mean residuals of rows with equal inputs with the scatter about them
    (Fisher 1922; Draper & Smith 1998, section 2.1). The chance is 1 if no inputs repeat or groups
    are fewer than parameters.
    """
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
    return float(f_above(misfit / max(scatter, 1e-300), law_freedom, scatter_freedom))


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
    chance = float(f_above(ratio, 2, n - 3))
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


def lower(law_verdict: str, more: Iterable[Notice]) -> str:
    """Return a verdict, or the worse one that more notices lead to."""
    order = list(VERDICTS.values())
    return min(law_verdict, verdict(more), key=order.index)


def verdict(fit_notices: Iterable[Notice]) -> str:
    """Return "weakly identified", "doubtful" or "good", by the worst severity of the notices."""
    return VERDICTS[notices.worst(fit_notices)]
