"""A metric and its standard error, by the infinitesimal jackknife.

A statistic T of N examples moves by U_i / N when example i gains weight 1 / N (its influence; mean 0), so that

  se^2 = G / (G - 1) sum_g (sum of U_i over group g)^2 / N^2

over G groups drawn independently, or the examples themselves (Jaeckel 1972; Efron 1982, chapter 6). Of a mean it is the
usual standard error, of a ratio the delta method's, of the area under a curve that of DeLong et al. (1988), in
groups that of Obuchowski (1997). It is 0 where no draw differs, which is no certainty.

Shapes: N examples, G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Metric:
    """An estimate over a held-out set."""

    value: float
    se: float  # standard error; nan where n is 1, one draw tells of no spread
    n: int  # independent draws: groups where they are given, else examples

    def __str__(self) -> str:
        spread = "one draw, no standard error" if self.n == 1 else f"se {self.se:.3g}"
        return f"{self.value:.6g} ({spread}, n {self.n})"


@dataclass(frozen=True)
class Draws:
    """Which independent draw each example belongs to."""

    group_N: np.ndarray  # integers in [0, count)
    count: int

    def metric(self, value: float, influence_N: np.ndarray) -> Metric:
        """The metric of that value whose examples have these influences."""
        N, G = len(self.group_N), self.count
        if G == 1:
            return Metric(float(value), math.nan, 1)
        sum_G = np.bincount(self.group_N, weights=influence_N, minlength=G)
        return Metric(float(value), math.sqrt(G / (G - 1) * float(np.square(sum_G).sum())) / N, G)

    def mean(self, values_N: np.ndarray) -> Metric:
        """The mean over examples."""
        values_N = np.asarray(values_N, np.float64)
        value = float(values_N.mean())
        return self.metric(value, values_N - value)


def draws(groups_N, count: int) -> Draws:
    """`groups_N` names the speaker, user or sequence of each of `count` examples; None: each is its own.

    Raises UserError where there are no examples, or not one group for each.
    """
    if not count:
        raise UserError("metrics: there are no held-out examples; raise config.eval.tokens")
    if groups_N is None:
        return Draws(np.arange(count), count)
    if len(groups_N) != count:
        raise UserError(f"metrics: {len(groups_N)} groups for {count} examples; give one for each")
    names, group_N = np.unique(np.asarray(groups_N), return_inverse=True)
    return Draws(group_N.reshape(-1), len(names))


def finite_values(name: str, values, count: int) -> np.ndarray:
    """`values` as a finite float64 array of `count`; raises UserError that says what is wrong with them."""
    values_N = np.asarray(values, np.float64)
    if values_N.shape != (count,):
        raise UserError(f"metrics: {name} has shape {values_N.shape}, of {count} examples")
    bad = np.flatnonzero(~np.isfinite(values_N))
    if len(bad):
        raise UserError(f"metrics: {name} of example {bad[0]} is {values_N[bad[0]]}, not finite")
    return values_N
