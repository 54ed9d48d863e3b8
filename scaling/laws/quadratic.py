"""Fit quadratics in the logs of one or more quantities, and return their minima.

Weighted least squares fit

    y = c + g x + x H x / 2,   x* = -H^-1 g

with a minimum x* only if H is positive definite.

Shapes: N rows, P points, F quantities, B sets of values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def averaged(x_NF: np.ndarray, y_N: np.ndarray):
    """Average y over rows of equal x (seeds). Return (x_PF, y_P, runs_P), runs per point."""
    x_PF, member = np.unique(x_NF, axis=0, return_inverse=True)
    runs_P = np.bincount(member.reshape(-1))
    return x_PF, np.bincount(member.reshape(-1), y_N) / runs_P, runs_P


def coefficients(n_quantities: int) -> int:
    """Return the number of coefficients of a quadratic: 3 in one quantity, 6 in two."""
    return (n_quantities + 1) * (n_quantities + 2) // 2


# Curvature up to which a quadratic counts as straight, in units of max |y| / max |x|^2. Least
# squares on a straight line leave 1e-16 to 1e-14 of these units. The sign depends on the CPU.
STRAIGHT = 1e-12


@dataclass(frozen=True)
class Quadratics:
    """B quadratics in F quantities."""

    constant_B: np.ndarray
    gradient_BF: np.ndarray
    hessian_BFF: np.ndarray
    straight_B: np.ndarray  # curvature up to which it is rounding

    def at(self, x_PF: np.ndarray) -> np.ndarray:
        """Return `[B, P]` values at points `[P, F]`."""
        curve_BP = np.einsum("bfg,pf,pg->bp", self.hessian_BFF, x_PF, x_PF) / 2
        return self.constant_B[:, None] + self.gradient_BF @ x_PF.T + curve_BP

    def minima(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (x*_BF, y*_B), NaN for quadratics without a minimum."""
        convex_B = np.linalg.eigvalsh(self.hessian_BFF)[:, 0] > self.straight_B
        safe_BFF = np.where(
            convex_B[:, None, None], self.hessian_BFF, np.eye(self.gradient_BF.shape[1])
        )
        best_BF = -np.linalg.solve(safe_BFF, self.gradient_BF[..., None])[..., 0]
        lowest_B = self.constant_B + np.sum(self.gradient_BF * best_BF, axis=1) / 2
        return np.where(convex_B[:, None], best_BF, np.nan), np.where(convex_B, lowest_B, np.nan)


def fit_quadratics(x_PF: np.ndarray, y_BP: np.ndarray, runs_P: np.ndarray) -> Quadratics | None:
    """Fit one quadratic per row of `y_BP`, with points weighted by their number of runs.

    Returns None if the points do not determine a quadratic.
    """
    n = x_PF.shape[1]
    first, second = np.triu_indices(n)
    design = np.column_stack([np.ones(len(x_PF)), x_PF, x_PF[:, first] * x_PF[:, second]])
    root_P = np.sqrt(runs_P)
    solution_CB, _, rank, _ = np.linalg.lstsq(
        design * root_P[:, None], (y_BP * root_P).T, rcond=1e-10
    )
    if rank < design.shape[1]:
        return None
    hessian_BFF = np.zeros((len(y_BP), n, n))
    for row, f, g in zip(solution_CB[n + 1 :], first, second, strict=True):
        hessian_BFF[:, f, g] += row
        hessian_BFF[:, g, f] += row
    straight_B = STRAIGHT * np.abs(y_BP).max(axis=1) / np.max(x_PF**2)
    return Quadratics(solution_CB[0], solution_CB[1 : n + 1].T, hessian_BFF, straight_B)
