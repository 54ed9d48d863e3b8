"""Resampling: one refit per resample, percentile intervals for whatever is computed from the
refits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

SAME = (
    1e-12  # relative difference up to which a draw equals the value: refits repeat it to rounding
)
MOST_SHIFTED = 0.2  # share of draws below the value, or above it, that a bias correction believes


@dataclass(frozen=True)
class Interval:
    """A value with its standard error and the ends of its percentile interval."""

    value: float
    se: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "se": self.se, "low": self.low, "high": self.high}

    def brief(self) -> str:
        """ "0.021 [0.018, 0.025]", or the value and that it has no interval."""
        ends = f"{self.low:.4g}, {self.high:.4g}" if not np.isnan(self.low) else "no interval"
        return f"{self.value:.4g} [{ends}]"


def interval(
    value: float, draws: np.ndarray, confidence: float, freedom: int | None = None
) -> Interval:
    """Percentile interval of the draws; NaN ends where fewer than half are finite.

    With `freedom`, the degrees of freedom of the fit that was drawn again, percentiles are taken at
    the quantiles of Student's t instead of the normal distribution, since those of few rows are too
    narrow (Hesterberg 2015), and shifted by how far `value` is from the median of the draws (Efron
    1981), unless the interval is wider than the value: there is no bias to speak of in what is not
    identified. `benchmarks/coverage.py` measures it.

    Draws at infinity count in the percentiles, not in the standard error: a parameter that runs off
    to infinity in a twentieth of the resamples has an interval that does.
    """
    draws = np.asarray(draws, float)
    known = draws[~np.isnan(draws)]
    finite = known[np.isfinite(known)]
    if len(finite) < max(2, len(draws) / 2):
        return Interval(float(value), float("nan"), float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    ends = np.array([tail, 1 - tail])
    if freedom is not None:
        ends = stats.norm.cdf(stats.t.ppf(ends, max(freedom, 1)))
    low, high = np.percentile(known, 100 * ends, method="nearest")
    if freedom is not None and high - low <= abs(value):
        equal = np.isclose(known, value, rtol=SAME, atol=0.0)
        below = np.mean((known < value) & ~equal) + np.mean(equal) / 2
        shift = stats.norm.ppf(np.clip(below, MOST_SHIFTED, 1 - MOST_SHIFTED))
        ends = stats.norm.cdf(2 * shift + stats.norm.ppf(ends))
        low, high = np.percentile(known, 100 * ends, method="nearest")
    low, high = min(low, value), max(high, value)  # refits that all lie on one side show a bias
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(finite.std(ddof=1))
    return Interval(float(value), spread, float(low), float(high))


def resample_counts(
    n: int, count: int, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """How often each of `n` rows is drawn in each resample, `[count, n]`.

    With `groups`, whole groups are drawn (a block bootstrap): rows of one seed or one size share
    what is odd about it, and single rows would look more independent than they are.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(float)
    _, member = np.unique(groups, return_inverse=True)
    k = int(member.max()) + 1
    return rng.multinomial(k, np.full(k, 1 / k), size=count).astype(float)[:, member]
