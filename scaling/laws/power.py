"""Power laws y = k x^a through points that carry draws of their own: N*(C), D*(C), L*(C)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.table import CannotFit


@dataclass(frozen=True)
class PowerFit:
    """y = coefficient * x^exponent, over `x_range`; draws are the bootstrap's."""

    coefficient: Interval
    exponent: Interval
    draws: np.ndarray  # [resamples, 2] log coefficient and exponent
    x_range: tuple[float, float]
    residuals: np.ndarray  # log y - log fit, per point
    confidence: float = 0.9

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
        confidence=confidence,
    )
