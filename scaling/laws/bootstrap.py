"""Resample rows or groups, and turn refits into bias-corrected percentile intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws import distributions
from scaling.utils import precision

# Relative difference up to which a draw equals the value: refits repeat it to rounding.
SAME = 1e-12
MOST_SHIFTED = 0.2  # least share of draws below (or above) the value that bias correction uses


@dataclass(frozen=True)
class Interval:
    """A value, its standard error and the ends of its percentile interval, in its own units."""

    value: float
    se: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        """Return the four numbers by name, for JSON."""
        return {"value": self.value, "se": self.se, "low": self.low, "high": self.high}

    def brief(self) -> str:
        """Return text such as "0.021 [0.018, 0.025]" or "0.0213 [no interval]"."""
        return precision.with_interval(self.value, self.low, self.high)


def interval(
    value: float, draws: np.ndarray, confidence: float, freedom: int | None = None
) -> Interval:
    """Return the percentile interval of the draws; its ends are NaN if fewer than half are finite.

    `freedom` is the degrees of freedom of the resampled fit. It makes two corrections. Percentiles
    are taken at quantiles of Student's t, since normal ones are too narrow for few rows (Hesterberg
    2015). They are shifted by the distance of `value` from the median of the draws (Efron 1981).
    The shift is left out if the interval is wider than the value, since the bias of an
    unidentified value means nothing. `benchmarks/coverage.py` measures the coverage.

    Infinite draws count in the percentiles and not in the standard error: a parameter that is
    infinite in a twentieth of the resamples has an infinite end.
    """
    draws = np.asarray(draws, float)
    defined = draws[~np.isnan(draws)]
    finite = defined[np.isfinite(defined)]
    if len(finite) < max(2, len(draws) / 2):
        return Interval(float(value), float("nan"), float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    ends = np.array([tail, 1 - tail])
    if freedom is not None:
        ends = distributions.normal_cdf(distributions.t_quantile(ends, max(freedom, 1)))
    low, high = np.percentile(defined, 100 * ends, method="nearest")
    if freedom is not None and high - low <= abs(value):
        equal = np.isclose(defined, value, rtol=SAME, atol=0.0)
        share_below = np.mean((defined < value) & ~equal) + np.mean(equal) / 2
        shift = distributions.normal_quantile(np.clip(share_below, MOST_SHIFTED, 1 - MOST_SHIFTED))
        ends = distributions.normal_cdf(2 * shift + distributions.normal_quantile(ends))
        low, high = np.percentile(defined, 100 * ends, method="nearest")
    low, high = min(low, value), max(high, value)  # if all refits lie on one side, they are biased
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(finite.std(ddof=1))
    return Interval(float(value), spread, float(low), float(high))


def resample_counts(
    n: int, count: int, groups: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Return `[count, n]`, the number of times each of `n` rows is drawn in each resample.

    `groups` `[n]` draws whole groups (a block bootstrap). Rows of one seed or one size share an
    error, so drawing single rows would make them look more independent than they are.
    """
    rng = np.random.default_rng(seed)
    if groups is None:
        return rng.multinomial(n, np.full(n, 1 / n), size=count).astype(float)
    _, member = np.unique(groups, return_inverse=True)
    k = int(member.max()) + 1
    return rng.multinomial(k, np.full(k, 1 / k), size=count).astype(float)[:, member]
