"""Test the residuals of a fit: single rows, groups of rows, and rows next to each other.

Shapes: N rows, P fitted parameters, R columns of a basis.

The law is linearised at the fit. Least squares in this linear model have closed forms for the
residual of a row that takes no part in the fit, and for a fit with more columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scaling.laws import distributions
from scaling.laws.table import Table
from scaling.utils import notices
from scaling.utils.notices import Notice

BY_CHANCE = 1e-3  # a pattern of residuals counts as structure if its chance is below this
ROUNDING = 1e-9  # residuals of log loss below this are rounding
SHOWN = 6  # rows that a message names
MAD_FREEDOM = 0.37  # efficiency of the median absolute deviation under normal noise
# Share of the squares that levels of groups leave: below large - small / sqrt(degrees of freedom)
# in one of a thousand tables of normal residuals, and below the last for uniform ones.
GROUPS_LEFT = {2: (0.32, 1.0, 0.22), 3: (0.15, 0.52, 0.08)}
SMALLER_GROUP = 0.12  # least share of the rows in the smallest group
MOST_SORTED = 400  # more residuals are thinned to so many quantiles
LEAST_PAIRS = 20  # neighbours that a correlation needs
ALIKE = 0.5  # a correlation of neighbours that makes intervals 1.7 times too narrow
MANY_ROWS = 80  # rows among which an outlier of less than `FAR_OFF` deviations moves no law
FAR_OFF = 10.0
SCATTER = 0.02  # scatter of runs about a law of loss that training noise does not explain


@dataclass(frozen=True)
class Linear:
    """Least squares in the linearised law."""

    left_N: np.ndarray  # residuals
    spare_N: np.ndarray  # 1 - leverage
    basis_NR: np.ndarray  # orthonormal columns that the law spans

    @property
    def freedom(self) -> int:
        return len(self.left_N) - self.basis_NR.shape[1]

    @property
    def spread(self) -> float:
        """Return the standard deviation of runs, by their median."""
        return float(1.4826 * np.median(np.abs(self.left_N))) * float(
            np.sqrt(len(self.left_N) / max(self.freedom, 1))
        )

    @property
    def usable(self) -> bool:
        """True if degrees of freedom are left and residuals are more than rounding."""
        return self.freedom >= 2 and float(np.sqrt(np.mean(self.left_N**2))) > ROUNDING


def linear(residuals_N: np.ndarray, jacobian_NP: np.ndarray) -> Linear:
    """Return least squares in the law linearised at the fit, from its residuals and slopes."""
    basis_NR = orthonormal(np.nan_to_num(jacobian_NP))
    left_N = residuals_N - basis_NR @ (basis_NR.T @ residuals_N)
    return Linear(left_N, 1 - np.sum(basis_NR**2, axis=1), basis_NR)


def orthonormal(columns_NP: np.ndarray) -> np.ndarray:
    """Return orthonormal columns that span the given ones."""
    size_P = np.linalg.norm(columns_NP, axis=0)
    columns_NP = columns_NP[:, size_P > 0] / size_P[size_P > 0]
    u_NR, s_R, _ = np.linalg.svd(columns_NP, full_matrices=False)
    return u_NR[:, s_R > 1e-9 * s_R.max(initial=0.0)]


def outliers(table: Table, law: Linear) -> list[Notice]:
    """Return a notice that names the rows which do not belong to the law of the others.

    A row counts if its residual from the law of the other rows has a chance below 1 in 1000 among
    all rows (externally studentised, Bonferroni). The worst row is set aside and the rest tested
    again. Several rows that hide each other are found by the median absolute deviation.
    """
    if not law.usable:
        return []
    found = _one_by_one(law) or _by_median(law)
    if not found:
        return []
    _, offs = _studentised(law, [i for i in range(len(table)) if i not in found])
    rows = sorted(found, key=lambda i: -abs(offs[i]))
    some = "; ".join(
        f"{_label(table.names[i])} by {abs(offs[i]):.3g} deviations ({_sign(offs[i])})"
        for i in rows[:SHOWN]
    ) + ("; …" if len(rows) > SHOWN else "")
    text = f"{len(rows)} row(s) lie off the law of the others: {some}; check or leave them out"
    harmless = len(table) >= MANY_ROWS and all(abs(offs[i]) < FAR_OFF for i in rows)
    return [Notice(notices.UNUSUAL_ROW if harmless else notices.OUTLIER, text)]


def _label(name: str) -> str:
    return f"row {name}" if name.isdigit() else name


def _sign(off: float) -> str:
    return "too high" if off > 0 else "too low"


def _by_median(law: Linear) -> set[int]:
    n = len(law.left_N)
    scaled_N = law.left_N / np.sqrt(np.maximum(law.spare_N, 1e-6))
    # with half of the rows on the law, their median tells its noise; those fitted exactly do not
    scale = 1.4826 * float(np.median(np.abs(scaled_N)))
    size_N = np.abs(law.left_N) / max(scale, 1e-300) / np.sqrt(np.maximum(law.spare_N, 1e-6))
    chance_N = 2 * n * distributions.t_above(size_N, MAD_FREEDOM * law.freedom)
    worst = np.argsort(-size_N * (law.spare_N > 1e-6))[: n // 4]
    return {int(i) for i in worst if chance_N[i] < BY_CHANCE}


def _one_by_one(law: Linear) -> set[int]:
    """Return the rows found by setting the worst aside, at most a quarter of them."""
    n = len(law.left_N)
    kept = list(range(n))
    found: set[int] = set()
    while len(found) < n // 4 and len(kept) - law.basis_NR.shape[1] >= 3:
        freedom, offs = _studentised(law, kept)
        worst = max(kept, key=lambda i: abs(offs[i]))
        if 2 * len(kept) * distributions.t_above(abs(offs[worst]), freedom) >= BY_CHANCE:
            break
        found.add(worst)
        kept.remove(worst)
    return found


def _studentised(law: Linear, kept: list[int]) -> tuple[int, np.ndarray]:
    """Return (degrees of freedom, `[N]` studentised residuals from the law of the `kept` rows).

    A kept row is compared with the others, a row set aside with all that are kept.
    """
    basis_KR, left_K = law.basis_NR[kept], law.left_N[kept]
    inverse_RR = np.linalg.pinv(basis_KR.T @ basis_KR, hermitian=True)
    move_R = inverse_RR @ (basis_KR.T @ left_K)
    left_N = law.left_N - law.basis_NR @ move_R
    reach_N = np.einsum("nr,rs,ns->n", law.basis_NR, inverse_RR, law.basis_NR)
    is_kept = np.isin(np.arange(len(left_N)), kept)
    freedom = max(len(kept) - basis_KR.shape[1] - 1, 1)
    spare_N = np.maximum(1 - reach_N, 1e-9)
    square = float(np.sum(left_N[is_kept] ** 2))
    rest_N = np.where(is_kept, square - left_N**2 / spare_N, square)
    rest_N = np.maximum(rest_N, 1e-9 * square + 1e-300)
    kept_N = left_N / np.sqrt(rest_N / freedom * spare_N)
    aside_N = left_N / np.sqrt(rest_N / (freedom + 1) * (1 + reach_N))
    exact_N = is_kept & (spare_N < 1e-6)  # a row that the law follows alone tells nothing
    return freedom, np.where(exact_N, 0.0, np.where(is_kept, kept_N, aside_N))


def hidden_groups(law: Linear) -> list[Notice]:
    """Return a notice if two or three levels, each with rows of its own, explain the residuals.

    Rows are given to the nearest level and the law is fitted with the levels, in turn (clusterwise
    regression, Spaeth 1979). The share of squares that is left is compared with that of normal
    residuals.
    """
    if not law.usable:
        return []
    for count, (large, small, least) in GROUPS_LEFT.items():
        share, gap = _levels(law, count)
        if share < min(large - small / np.sqrt(law.freedom), least):
            text = (
                f"residuals fall into {count} groups that explain {1 - share:.0%} of them, up to "
                f"{gap:.2%} apart: runs of several families or recipes? fit each alone"
            )
            return [Notice(notices.HIDDEN_GROUPS, text)]
    return []


def _levels(law: Linear, count: int) -> tuple[float, float]:
    """Return (share of the squares that `count` levels leave, distance of the outer levels)."""
    n, before = len(law.left_N), float(np.sum(law.left_N**2))
    member_N = np.searchsorted(_cuts(law.left_N, count), law.left_N, side="right")
    share, gap = 1.0, 0.0
    for _ in range(10):
        sizes = np.bincount(member_N, minlength=count)
        if sizes.min() < max(3, SMALLER_GROUP * n):
            break
        level_NG = np.eye(count)[member_N][:, 1:]
        design_NK = np.concatenate([law.basis_NR, level_NG], axis=1)
        solution_K = np.linalg.lstsq(design_NK, law.left_N, rcond=None)[0]
        left = float(np.sum((law.left_N - design_NK @ solution_K) ** 2)) / before
        levels = np.concatenate([[0.0], solution_K[law.basis_NR.shape[1] :]])
        if left < share:
            share, gap = left, float(np.ptp(levels))
        rest_N = law.left_N - law.basis_NR @ solution_K[: law.basis_NR.shape[1]]
        moved_N = np.abs(rest_N[:, None] - levels).argmin(axis=1)
        if np.array_equal(moved_N, member_N):
            break
        member_N = moved_N
    return share, gap


def _cuts(values_N: np.ndarray, count: int) -> np.ndarray:
    """Return the values that cut residuals into two or three groups of the least squares."""
    sorted_M = np.sort(values_N)
    if len(sorted_M) > MOST_SORTED:
        sorted_M = np.quantile(sorted_M, (np.arange(MOST_SORTED) + 0.5) / MOST_SORTED)
    n = len(sorted_M)
    least = max(3, int(np.ceil(SMALLER_GROUP * n)))
    sums = np.concatenate([[0.0], np.cumsum(sorted_M - sorted_M.mean())])
    first, second = np.triu_indices(n + 1, least if count == 3 else 0)
    if count == 2:
        first = second = np.arange(n + 1)
    allowed = (first >= least) & (n - second >= least)
    if not allowed.any():
        return sorted_M[:0]
    first, second = first[allowed], second[allowed]
    low, high = sums[first], sums[second]
    between = low**2 / first + (high - low) ** 2 / np.maximum(second - first, 1)
    best = int((between + high**2 / (n - second)).argmax())
    return sorted_M[sorted({int(first[best]), int(second[best])})]


def serial(table: Table, law: Linear) -> list[Notice]:
    """Return a notice if residuals of one size resemble those next to them in tokens."""
    if not law.usable or not {"n_params", "tokens"} <= set(table.columns):
        return []
    order = np.lexsort((table.tokens, table.n_params))
    same = table.n_params[order][1:] == table.n_params[order][:-1]
    same &= table.tokens[order][1:] > table.tokens[order][:-1]
    spread = 1.4826 * float(np.median(np.abs(law.left_N)))
    clipped = np.clip(law.left_N, -3 * spread, 3 * spread)[order]
    pairs = int(same.sum())
    if pairs < LEAST_PAIRS or spread <= 0:
        return []
    correlation = float(np.mean((clipped[1:] * clipped[:-1])[same]) / np.mean(clipped**2))
    if correlation < ALIKE or distributions.normal_cdf(-correlation * np.sqrt(pairs)) >= BY_CHANCE:
        return []
    text = (
        f"residuals of one size follow each other in tokens (correlation {correlation:.2f}), as "
        "points of training curves do: these rows are no independent runs; keep the last point of "
        "each curve, or resample whole sizes with --blocks=n_params"
    )
    return [Notice(notices.SERIAL_RESIDUALS, text)]


def scatter(table: Table, spread: float) -> list[Notice]:
    """Return a notice if runs of a law of size scatter by more than runs do."""
    if spread < SCATTER or "n_params" not in table:
        return []
    text = (
        f"runs scatter by {spread:.1%} about the law, where seeds differ by less than 1%: other "
        "settings, families or units in these rows?"
    )
    return [Notice(notices.LARGE_SCATTER, text)]


def of_rows(table: Table, law: Linear, target: str) -> Iterable[Notice]:
    """Return all notices of this module."""
    return [
        *outliers(table, law),
        *hidden_groups(law),
        *serial(table, law),
        *(scatter(table, law.spread) if target == "loss" else ()),
    ]
