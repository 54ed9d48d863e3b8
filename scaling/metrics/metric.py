"""Estimate a metric and its standard error by the infinitesimal jackknife.

A statistic of N examples changes by U_i / N when example i gains weight 1 / N. U_i, of mean 0, is
its influence. Then

  se^2 = G / (G - 1) sum_g (sum of U_i over group g)^2 / N^2

over G independent groups, or the examples themselves (Jaeckel 1972; Efron 1982, chapter 6). It
equals the usual standard error of a mean, the delta method's of a ratio, and that of DeLong et al.
(1988) of the area under a curve, with groups that of Obuchowski (1997). It is 0 if no draw differs,
which does not imply certainty.

Shapes: N examples, G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaling.utils import precision
from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Metric:
    """An estimate over a held-out set."""

    value: float
    se: float  # standard error; nan if n is 1, since one draw has no spread
    n: int  # independent draws: groups if given, else examples

    def __str__(self) -> str:
        return precision.with_error(self.value, self.se) + f" (n {self.n})" * (self.n > 1)


@dataclass(frozen=True)
class Draws:
    """The independent draw of each example."""

    group_N: np.ndarray  # integers in [0, count)
    count: int

    def metric(self, value: float, influence_N: np.ndarray) -> Metric:
        """Return the metric of this value and these influences of examples."""
        N, G = len(self.group_N), self.count
        if G == 1:
            return Metric(float(value), math.nan, 1)
        sum_G = np.bincount(self.group_N, weights=influence_N, minlength=G)
        return Metric(float(value), math.sqrt(G / (G - 1) * float(np.square(sum_G).sum())) / N, G)

    def mean(self, values_N: np.ndarray) -> Metric:
        """Return the mean over examples."""
        values_N = np.asarray(values_N, np.float64)
        value = float(values_N.mean())
        return self.metric(value, values_N - value)


def draws(groups_N, count: int) -> Draws:
    """Return the draws of `count` examples. `groups_N`: the speaker, user or sequence of each.

    With None, each example is its own draw. Raises UserError without examples, or if the number of
    groups differs.
    """
    if not count:
        raise UserError("metrics: no held-out examples; raise config.eval.tokens")
    if groups_N is None:
        return Draws(np.arange(count), count)
    if len(groups_N) != count:
        raise UserError(f"metrics: {len(groups_N)} groups for {count} examples; give one for each")
    names, group_N = np.unique(np.asarray(groups_N), return_inverse=True)
    return Draws(group_N.reshape(-1), len(names))


def finite_values(name: str, values, count: int) -> np.ndarray:
    """Return `values` as a float64 array. Raises UserError if it is not `count` finite numbers."""
    values_N = np.asarray(values, np.float64)
    if values_N.shape != (count,):
        raise UserError(f"metrics: {name} has shape {values_N.shape}, of {count} examples")
    bad = np.flatnonzero(~np.isfinite(values_N))
    if len(bad):
        raise UserError(f"metrics: {name} of example {bad[0]} is {values_N[bad[0]]}, not finite")
    return values_N
