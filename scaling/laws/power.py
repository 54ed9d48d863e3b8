"""Power laws of one variable: y = k x^a for optima, L = E + k x^-a for losses.

The first is least squares on logs. The second (Hestness et al. 2017; Henighan et al. 2020) is least squares on log loss
from a grid of exponents and floors, solved at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.solve import minimise
from scaling.laws.table import CannotFit


@dataclass(frozen=True)
class PowerFit:
    """y = coefficient * x^exponent, over `x_range`; draws are the bootstrap's."""

    coefficient: Interval
    exponent: Interval
    draws: np.ndarray  # [resamples, 2] log coefficient and exponent
    x_range: tuple[float, float]
    residuals: np.ndarray  # log y - log fit, per point

    equation = "y = k x^a"

    def predict(self, x):
        return self.coefficient.value * np.asarray(x, float) ** self.exponent.value

    def predict_interval(self, x: float, confidence: float) -> Interval:
        draws = np.exp(self.draws[:, 0] + self.draws[:, 1] * np.log(x))
        return interval(float(self.predict(x)), draws, confidence)


def fit_power(x, y, y_draws=None, *, confidence: float = 0.9) -> PowerFit:
    """Fit to points (x, y); `y_draws` `[resamples, points]` carries each point's uncertainty along.

    Draws that are not finite are left out of their resample. Raises CannotFit for fewer than two
    distinct x.
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(np.unique(log_x)) < 2:
        raise CannotFit(f"power law: {len(np.unique(log_x))} distinct point(s); needs at least 2")
    exponent, intercept = np.polyfit(log_x, log_y, 1)
    draws = []
    for row in np.empty((0, len(log_x))) if y_draws is None else np.asarray(y_draws, float):
        good = np.isfinite(row) & (row > 0)
        if len(np.unique(log_x[good])) >= 2:
            slope, offset = np.polyfit(log_x[good], np.log(row[good]), 1)
            draws.append((offset, slope))
    array = np.array(draws).reshape(-1, 2)
    return PowerFit(
        coefficient=interval(float(np.exp(intercept)), np.exp(array[:, 0]), confidence),
        exponent=interval(float(exponent), array[:, 1], confidence),
        draws=array,
        x_range=(float(np.min(x)), float(np.max(x))),
        residuals=log_y - (intercept + exponent * log_x),
    )


@dataclass(frozen=True)
class OffsetFit:
    """L = E + k x^-a with intervals from a residual bootstrap."""

    intervals: dict[str, Interval]  # E, k, a
    residuals: np.ndarray  # log L - log fit
    verdict: str  # "good" | "weakly identified"

    equation = "L = E + k x^-a"

    def predict(self, x):
        i = self.intervals
        return i["E"].value + i["k"].value * np.asarray(x, float) ** -i["a"].value


def predict_log_offset(params_P, features_N1):
    """log(E + k x^-a) of (log E, log k, a) at rows of (log x); used inside the solver."""
    import jax.numpy as jnp

    log_e, log_k, a = params_P
    return jnp.logaddexp(log_e, log_k - a * features_N1[:, 0])


def fit_offset(x, loss, *, bootstrap: int = 500, confidence: float = 0.9) -> OffsetFit:
    """Fit L = E + k x^-a. Raises CannotFit for fewer than four distinct x, or a loss that does not fall."""
    x, loss = np.asarray(x, float), np.asarray(loss, float)
    if len(np.unique(x)) < 4:
        raise CannotFit(f"L = E + k x^-a: {len(np.unique(x))} distinct x for 3 parameters; needs 4")
    features, target = np.log(x)[:, None], np.log(loss)
    centre = float(np.log(np.median(x)))
    grid = np.array(
        [
            (np.log(e * loss.min()), np.log((1 - e) * np.median(loss)) + a * centre, a)
            for e in (0.05, 0.3, 0.6, 0.9)
            for a in (0.05, 0.15, 0.4, 1.0)
        ]
    )
    wide = 10.0  # a Huber threshold no residual reaches: least squares
    weights = np.ones((len(grid), len(x)))
    solution = minimise(predict_log_offset, features, target, weights, grid, delta=wide)
    legal = np.isfinite(solution.objective_R) & (solution.params_RP[:, 2] > 0)
    if not legal.any():
        raise CannotFit("L = E + k x^-a: the losses do not fall with x")
    best = solution.params_RP[np.where(legal, solution.objective_R, np.inf).argmin()]
    fitted = np.asarray(np.logaddexp(best[0], best[1] - best[2] * features[:, 0]))
    residuals = target - fitted
    if np.square(residuals).sum() > 0.8 * np.square(target - target.mean()).sum():
        raise CannotFit("L = E + k x^-a: the losses do not fall with x")
    widened = (residuals - residuals.mean()) * np.sqrt(len(x) / (len(x) - 3))
    rng = np.random.default_rng(0)
    draws = np.full((bootstrap, 3), np.nan)
    for i in range(bootstrap):
        again = fitted + rng.choice(widened, len(x))
        draws[i] = minimise(
            predict_log_offset,
            features,
            again,
            np.ones((1, len(x))),
            best[None],
            delta=wide,
            near=True,
        ).params_RP[0]
    intervals = {
        "E": interval(float(np.exp(best[0])), np.exp(draws[:, 0]), confidence),
        "k": interval(float(np.exp(best[1])), np.exp(draws[:, 1]), confidence),
        "a": interval(float(best[2]), draws[:, 2], confidence),
    }
    a = intervals["a"]
    weak = not np.isfinite(a.se) or a.high - a.low > a.value or np.exp(best[0]) < 0.05 * loss.min()
    return OffsetFit(intervals, residuals, "weakly identified" if weak else "good")
