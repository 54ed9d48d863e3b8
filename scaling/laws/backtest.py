"""Backtest laws: fit each law to the cheaper rows and score it on the dearer ones, at several cuts.

Only rows of the given table are used. A cut of runs holds back a share of the rows, dearest first.
A cut of a curve (one input) lies at a fraction of the largest x. It is scored on the rows up to
twice as far.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws import checks
from scaling.laws.forms.base import Form
from scaling.laws.multistart import Solver
from scaling.laws.objective import Objective
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

HELD_BACK = (0.15, 0.25, 0.35, 0.45)  # share of the runs that each fold holds back
CUTS = tuple(2.0 ** (-k / 2) for k in range(1, 6))  # as fractions of the largest x of a curve
AHEAD = 2.0  # a fold of a curve is scored up to this multiple of its cut
STARTS = 32  # nearest starts of a grid per fold; a fold does not need every minimum


@dataclass(frozen=True)
class Member:
    """A form in a forecast. Rows weigh (scale / largest scale)^late, with compute or x as scale."""

    form: Form
    late: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.form.name}_late" if self.late else self.form.name


@dataclass(frozen=True)
class Fold:
    """Boolean masks of the rows to fit and of the rows to score."""

    fitted_N: np.ndarray
    scored_N: np.ndarray

    @property
    def held_back(self) -> float:
        """Return the share of the rows that are not fitted."""
        return float(1 - self.fitted_N.mean())


def of_runs(scale_N: np.ndarray) -> list[Fold]:
    """Return distinct folds that hold back the rows of the largest scale, `[N]` FLOPs."""
    order = np.argsort(scale_N, kind="stable")
    n = len(scale_N)
    cuts = dict.fromkeys(float(scale_N[order[n - max(1, round(share * n))]]) for share in HELD_BACK)
    return [Fold(scale_N < cut, scale_N >= cut) for cut in cuts if scale_N.min() < cut]


def of_curve(x_N: np.ndarray) -> list[Fold]:
    """Return distinct folds that end at a fraction of the largest x, `[N]` inputs of a curve."""
    folds: list[Fold] = []
    for cut in CUTS:
        fitted_rows = x_N <= cut * x_N.max() * (1 + 1e-9)
        scored_rows = ~fitted_rows & (x_N <= AHEAD * cut * x_N.max() * (1 + 1e-9))
        if fitted_rows.any() and scored_rows.any():
            folds.append(Fold(fitted_rows, scored_rows))
    return folds


def backtest(
    table: Table,
    members: Sequence[Member],
    folds: Sequence[Fold],
    objective: Objective,
) -> tuple[dict[str, list[float]], list[Fold], list[Notice]]:
    """Return (root mean square log errors per member and fold, folds that count, notices).

    A fold counts if at least half of the members can be fitted to it. A member that cannot be
    fitted to every fold that counts gets an empty list of errors.
    """
    scores = [{m.name: _score(table, m, fold, objective) for m in members} for fold in folds]
    enough = [2 * np.isfinite(list(score.values())).sum() >= len(members) for score in scores]
    counted_folds = [fold for fold, is_enough in zip(folds, enough, strict=True) if is_enough]
    kept_scores = [score for score, is_enough in zip(scores, enough, strict=True) if is_enough]
    errors = {m.name: [score[m.name] for score in kept_scores] for m in members}
    warnings = [
        Notice(
            notices.NO_BACKTEST, f"{name}: no backtest, because some folds have too few rows for it"
        )
        for name, member_errors in errors.items()
        if not np.isfinite(member_errors).all()
    ]
    if len(counted_folds) < len(folds):
        text = f"{len(folds) - len(counted_folds)} of {len(folds)} folds have too few rows"
        warnings.append(Notice(notices.FEW_FOLDS, text))
    complete_errors = {
        name: member_errors if np.isfinite(member_errors).all() else []
        for name, member_errors in errors.items()
    }
    return complete_errors, counted_folds, warnings


def _score(table: Table, member: Member, fold: Fold, objective: Objective) -> float:
    """Return the root mean square log error on the scored rows; NaN if the fit fails."""
    form = member.form
    cheap_rows = table.rows(fold.fitted_N)
    try:
        checks.require_spread(cheap_rows, form, len(form.parameters))
    except CannotFit:
        return float("nan")
    weights_N = fold.fitted_N * checks.lateness(table, form, member.late)
    weights_N = weights_N / weights_N.max()
    solver = Solver.of(table, form, objective, weights_N=weights_N)
    # the grid of starts must not use the scored rows
    grid_RP = form.starts(solver.logs_NF[fold.fitted_N], solver.target_N[fold.fitted_N])
    solution, _ = solver.from_grid(solver.nearest(grid_RP, STARTS))
    value = solver.ranked(solution)
    if not np.isfinite(value).any():
        return float("nan")
    residuals_N = solver.log_residuals(solution.params_RP[value.argmin()])
    return float(np.sqrt(np.mean(residuals_N[fold.scored_N] ** 2)))
