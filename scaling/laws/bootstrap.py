"""Resampling: one refit per resample, percentile intervals for whatever is computed from the refits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A value with its standard error and the ends of its percentile interval."""

    value: float
    se: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "se": self.se, "low": self.low, "high": self.high}


def interval(value: float, draws: np.ndarray, confidence: float) -> Interval:
    """Percentile interval of the finite draws; NaN ends where fewer than half are finite."""
    finite = np.asarray(draws, float)[np.isfinite(draws)]
    if len(finite) < max(2, len(draws) / 2):
        return Interval(float(value), float("nan"), float("nan"), float("nan"))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(finite, [tail, 100 - tail])
    return Interval(float(value), float(finite.std(ddof=1)), float(low), float(high))


def resample_counts(groups: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """How often each row is drawn in each resample, `[count, rows]`.

    Rows are drawn with replacement within their group (the budget), so that every resample keeps the
    design of the sweep.
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros((count, len(groups)))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        counts[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=count)
    return counts
