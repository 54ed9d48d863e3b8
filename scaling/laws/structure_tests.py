"""Test residuals by F for what more columns explain: labels, sizes, tokens per parameter.

Shapes: N rows, G groups, R columns of a basis, K columns that are added.
"""

from __future__ import annotations

import numpy as np

from scaling.laws import distributions
from scaling.laws.residual_tests import BY_CHANCE, Linear, orthonormal
from scaling.laws.table import Table
from scaling.utils import notices
from scaling.utils.notices import Notice


def of_rows(table: Table, law: Linear, scale_N: np.ndarray, target: str) -> list[Notice]:
    """Return all notices of this module. `scale_N` is compute."""
    found = families(table, law, scale_N)
    return [*found, *levels(table, law), *ratio(table, law)] if target == "loss" else found


def families(table: Table, law: Linear, scale_N: np.ndarray) -> list[Notice]:
    """Return a notice per column of labels whose groups have residuals of their own.

    An F test adds a level and a slope in log compute per label to the law. `scale_N` is compute.
    """
    if not law.usable or not table.labels:
        return []
    log_N = np.log(scale_N) - np.log(scale_N).mean()
    found = []
    for column, labels in table.labels.items():
        _, member_N = np.unique(labels, return_inverse=True)
        level_NG = np.eye(member_N.max() + 1)[member_N]
        if not _crossed(table, member_N):
            continue
        both_NK = np.concatenate([level_NG, level_NG * log_N[:, None]], axis=1)
        share, chance = _explained(law, both_NK)
        chance *= len(table.labels)
        if chance < BY_CHANCE:
            text = (
                f"residuals differ between the {level_NG.shape[1]} values of column {column} "
                f"(they explain {share:.0%}, chance {chance:.1g}): families of runs? "
                f"fit each alone, --where={column}=VALUE"
            )
            found.append(Notice(notices.DIFFERENT_FAMILIES, text))
    return found


def _crossed(table: Table, member_N: np.ndarray) -> bool:
    """Return whether two labels or more have several sizes: a family, not the name of a run."""
    groups = [member_N == g for g in range(member_N.max() + 1)]
    for name in ("n_params", "tokens", "flops", "x"):
        if name in table and sum(len(np.unique(table[name][g])) >= 3 for g in groups) < 2:
            return False
    return True


def levels(table: Table, law: Linear) -> list[Notice]:
    """Return a notice per input whose values have residuals of their own (an F test on levels)."""
    found = []
    for name in ("n_params", "tokens"):
        if not law.usable or name not in table:
            continue
        values, member_N = np.unique(table[name], return_inverse=True)
        if len(values) < 3 or 2 * len(values) > len(table):
            continue
        share, chance = _explained(law, np.eye(len(values))[member_N.reshape(-1)])
        if chance < BY_CHANCE:
            text = (
                f"residuals differ between the values of {name}, by levels that explain "
                f"{share:.0%} of them (chance {chance:.1g}): sizes tuned unequally, other recipes, "
                "or a form that does not hold? plot them before trusting the law"
            )
            found.append(Notice(notices.STRUCTURED_RESIDUALS, text))
    return found


def ratio(table: Table, law: Linear) -> list[Notice]:
    """Return a notice if residuals follow a cubic in log tokens per parameter (F test)."""
    if not law.usable or not {"n_params", "tokens"} <= set(table.columns):
        return []
    log_N = np.log(table.tokens / table.n_params)
    if np.ptp(log_N) < 0.1:
        return []
    x_N = 2 * (log_N - log_N.min()) / np.ptp(log_N) - 1
    share, chance = _explained(law, np.vander(x_N, 4))
    if chance >= BY_CHANCE:
        return []
    text = (
        f"residuals have structure against tokens per parameter (a cubic explains {share:.0%} of "
        f"them, chance {chance:.1g}): another recipe at some ratios, or a form that does not hold?"
    )
    return [Notice(notices.STRUCTURED_RESIDUALS, text)]


def _explained(law: Linear, more_NK: np.ndarray) -> tuple[float, float]:
    """Return (share of the squares that more columns explain, its chance by an F test).

    Residuals are clipped at three robust deviations, so that one outlier makes no structure.
    """
    spread = 1.4826 * float(np.median(np.abs(law.left_N - np.median(law.left_N))))
    clipped_N = np.clip(law.left_N, -3 * spread, 3 * spread)
    clipped_N = clipped_N - law.basis_NR @ (law.basis_NR.T @ clipped_N)
    basis_NR = orthonormal(np.concatenate([law.basis_NR, more_NK], axis=1))
    more = basis_NR.shape[1] - law.basis_NR.shape[1]
    freedom = len(clipped_N) - basis_NR.shape[1]
    before = float(np.sum(clipped_N**2))
    if more < 1 or freedom < 3 or before <= 0:
        return 0.0, 1.0
    after = float(np.sum((clipped_N - basis_NR @ (basis_NR.T @ clipped_N)) ** 2))
    found = (before - after) / more / max(after / freedom, 1e-300)
    return 1 - after / before, float(distributions.f_above(found, more, freedom))
