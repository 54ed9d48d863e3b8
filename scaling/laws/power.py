"""Fit power laws y = k x^a through points with draws of their own: N*(C), D*(C), L*(C).

Shapes: K points, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.table import CannotFit


@dataclass(frozen=True)
class PowerFit:
    """The law y = coefficient * x^exponent over `x_range`, with bootstrap draws."""

    coefficient: Interval
    exponent: Interval
    draws: np.ndarray  # [resamples, 2] log coefficient and exponent
    x_range: tuple[float, float]
    residuals: np.ndarray  # log y - log fit, per point
    confidence: float = 0.9

    equation = "y = k x^a"

    def predict(self, x):
        """Return y at `x`, a number or an array."""
        return self.coefficient.value * np.asarray(x, float) ** self.exponent.value

    def predict_interval(self, x: float, confidence: float) -> Interval:
        """Return the interval of the law at one `x`."""
        draws = np.exp(self.draws[:, 0] + self.draws[:, 1] * np.log(x))
        return interval(float(self.predict(x)), draws, confidence)


def fit_power(x, y, y_draws=None, *, scattered: bool = False, confidence: float = 0.9) -> PowerFit:
    """Fit a power law to points x `[K]`, y `[K]`, with draws of y `[B, K]` for its uncertainty.

    `scattered` points are independent and may lie further from the line than their own draws. Each
    resample then moves them by that scatter, too. Draws that are not finite are left out of their
    resample. Raises CannotFit for fewer than two distinct x.
    """
    log_x, log_y = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(np.unique(log_x)) < 2:
        raise CannotFit(
            f"power law: {len(np.unique(log_x))} distinct point(s); it needs at least 2"
        )
    exponent, intercept = np.polyfit(log_x, log_y, 1)
    y_BK = np.empty((0, len(log_x))) if y_draws is None else np.asarray(y_draws, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_BK = np.where(y_BK > 0, np.log(y_BK), np.nan)
    if scattered:
        log_BK = log_BK + _scatter(log_x, log_y, log_BK)
    draws = []
    for row in log_BK:
        good = np.isfinite(row)
        if len(np.unique(log_x[good])) >= 2:
            slope, offset = np.polyfit(log_x[good], row[good], 1)
            draws.append((offset, slope))
    array = np.array(draws).reshape(-1, 2)
    return PowerFit(
        coefficient=interval(float(np.exp(intercept)), np.exp(array[:, 0]), confidence),
        exponent=interval(float(exponent), array[:, 1], confidence),
        draws=array,
        x_range=(float(np.min(x)), float(np.max(x))),
        residuals=log_y - (intercept + exponent * log_x),
        confidence=confidence,
    )


def _scatter(log_x: np.ndarray, log_y: np.ndarray, log_BK: np.ndarray) -> np.ndarray:
    """Return `[B, K]` draws of the scatter of points about the line beyond their own draws.

    The method of moments gives its variance (DerSimonian & Laird 1986, for a regression of equal
    weights). Draws follow Student's t, since few points determine the variance.
    """
    freedom = len(log_x) - 2
    if freedom < 1 or len(log_BK) < 2:
        return np.zeros_like(log_BK)
    design_K2 = np.stack([np.ones_like(log_x), log_x - log_x.mean()], axis=1)
    residual_KK = np.eye(len(log_x)) - design_K2 @ np.linalg.pinv(design_K2)
    variance_K = np.nan_to_num(np.nanvar(log_BK, axis=0))
    excess = np.sum((residual_KK @ log_y) ** 2) - np.diag(residual_KK) @ variance_K
    rng = np.random.default_rng(1)
    wide_B1 = np.sqrt(freedom / rng.chisquare(freedom, (len(log_BK), 1)))
    return np.sqrt(max(excess, 0.0) / freedom) * wide_B1 * rng.standard_normal(log_BK.shape)
