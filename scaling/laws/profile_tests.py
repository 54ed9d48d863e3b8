"""Test whether IsoFLOP profiles are parabolas: lack of fit, curvature, a second minimum.

Shapes: P points (sizes) of one budget.

A polynomial of fourth degree tells the noise of the points. All budgets share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws.distributions import f_above
from scaling.utils import notices
from scaling.utils.notices import Notice

BY_CHANCE = 1e-3
VISIBLE = 0.02  # share of a profile's squares that a parabola must miss, besides by chance
POOR = 0.5  # a parabola that misses this share is none, whatever the noise
FLAT = 2.0  # a curvature of fewer standard errors is not told from noise
ENOUGH = 3  # degrees of freedom with which a profile tells its own noise
BARRIER = 0.15  # height between two minima, as a share of the profile's range
ROUNDING = 1e-9


@dataclass(frozen=True)
class Points:
    """The points of one budget."""

    budget: float
    log_n_P: np.ndarray
    log_loss_P: np.ndarray
    runs_P: np.ndarray

    def rest(self, degree: int) -> float:
        """Return the weighted squares that a polynomial of this degree leaves."""
        root_P = np.sqrt(self.runs_P)
        design = np.vander(self._x_P(), degree + 1) * root_P[:, None]
        solution = np.linalg.lstsq(design, self.log_loss_P * root_P, rcond=None)[0]
        return float(np.sum((self.log_loss_P * root_P - design @ solution) ** 2))

    def curvature(self) -> tuple[float, float]:
        """Return (c2, its standard error per standard deviation of one run)."""
        root_P = np.sqrt(self.runs_P)
        inverse = np.linalg.pinv(np.vander(self._x_P(), 3) * root_P[:, None])
        return float(inverse[0] @ (self.log_loss_P * root_P)), float(np.linalg.norm(inverse[0]))

    def _x_P(self) -> np.ndarray:
        centred = self.log_n_P - self.log_n_P.mean()
        return centred / np.abs(centred).max()

    @property
    def high(self) -> int:
        """Return the degree that tells the noise: 4, or lower for few points."""
        return max(min(4, len(self.log_n_P) - 2), 2)


def shapes(profiles: Sequence[Points], parabola: bool = True) -> list[Notice]:
    """Return a notice per budget whose profile is no parabola, is flat, or has two minima.

    `parabola` is False for a method that follows any profile with one minimum.
    """
    found = []
    for i, points in enumerate(profiles):
        others = [p for j, p in enumerate(profiles) if j != i]
        reason = _two_minima(points, profiles) or _flat(points, profiles)
        if not reason and parabola:
            reason = _misfit(points, others)
        if reason:
            text = f"budget {points.budget:.3g}: {reason}"
            found.append(Notice(notices.NO_PARABOLA, text))
    return found


def _noise(profiles: Sequence[Points]) -> tuple[float, int]:
    """Return (pooled variance of one run about high polynomials, degrees of freedom)."""
    freedom = sum(len(p.log_n_P) - p.high - 1 for p in profiles)
    return sum(p.rest(p.high) for p in profiles) / max(freedom, 1), freedom


def _misfit(points: Points, others: Sequence[Points]) -> str:
    """Return why a parabola does not fit, by F tests against the noise of the budgets."""
    total, left = points.rest(0), points.rest(2)
    sizes = len(points.log_n_P)
    if total / sizes < ROUNDING**2 or sizes < 4:
        return ""
    share = left / total
    if share > POOR:
        return f"a parabola explains only {1 - share:.0%} of the profile"
    if share < VISIBLE:
        return ""
    for compared, more, rest in (
        # a smooth profile of another shape, and one with more scatter than the others
        ([*others, points], points.high - 2, left - points.rest(points.high)),
        (others, sizes - 3, left),
    ):
        variance, freedom = _noise(compared)
        if freedom < 2 or more < 1:
            continue
        chance = f_above(rest / more / max(variance, 1e-300), more, freedom)
        if chance < BY_CHANCE:
            return (
                f"the profile is no parabola, which misses {share:.0%} of it (chance {chance:.1g})"
                "; follow it with --method=akima, or fit sizes nearer to the minimum"
            )
    return ""


def _flat(points: Points, profiles: Sequence[Points]) -> str:
    """Return a reason if the curvature is not told from noise."""
    if len(points.log_n_P) < 4:
        return ""
    freedom = len(points.log_n_P) - 3
    variance = points.rest(2) / freedom
    if freedom < ENOUGH:
        variance, _ = _noise(profiles)
    curvature, error = points.curvature()
    if variance < ROUNDING**2 or curvature > FLAT * error * np.sqrt(variance):
        return ""
    return "the profile does not rise from its minimum by more than its noise; add sizes or seeds"


def _two_minima(points: Points, profiles: Sequence[Points]) -> str:
    """Return a reason if two sizes far below the points between them are minima."""
    y_P = points.log_loss_P[np.argsort(points.log_n_P)]
    barrier = 0.0
    for i in range(1, len(y_P) - 1):
        barrier = max(barrier, y_P[i] - max(y_P[:i].min(), y_P[i + 1 :].min()))
    height = np.ptp(y_P)
    if height < ROUNDING or barrier < BARRIER * height:
        return ""
    variance, freedom = _noise(profiles)
    if freedom < 2 or barrier < (4 + 16 / freedom) * np.sqrt(variance):
        return ""
    return "the profile has two minima, with a rise between them"
