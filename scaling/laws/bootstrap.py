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
    """Percentile interval of the draws; NaN ends where fewer than half are finite.

    Draws at infinity count in the percentiles, not in the standard error: a parameter that runs off to
    infinity in a twentieth of the resamples has an interval that does.
    """
    draws = np.asarray(draws, float)
    known = draws[~np.isnan(draws)]
    finite = known[np.isfinite(known)]
    if len(finite) < max(2, len(draws) / 2):
        return Interval(float(value), float("nan"), float("nan"), float("nan"))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(known, [tail, 100 - tail], method="nearest")
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(finite.std(ddof=1))
    return Interval(float(value), spread, float(low), float(high))


def resample_counts(
    n: int, count: int, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """How often each of `n` rows is drawn in each resample, `[count, n]`.

    With `groups`, whole groups are drawn (a block bootstrap): rows of one seed or one size share what
    is odd about it, and single rows would look more independent than they are.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(float)
    _, member = np.unique(groups, return_inverse=True)
    k = int(member.max()) + 1
    return rng.multinomial(k, np.full(k, 1 / k), size=count).astype(float)[:, member]
