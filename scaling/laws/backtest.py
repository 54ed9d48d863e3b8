"""Backtests: every law is fitted to the cheaper rows and asked for the dearer ones, at several
cuts.

Only rows of the given table are looked at. Cuts of runs hold back a share of the rows, dearest
first; cuts of a curve (one input) lie at fractions of the largest x, and each is asked for the rows
up to twice as far.
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
CUTS = tuple(2.0 ** (-k / 2) for k in range(1, 6))  # fractions of the largest x of a curve
AHEAD = 2.0  # times the cut: how far a fold of a curve looks
STARTS = 32  # of a grid, the nearest; a fold needs no census of minima


@dataclass(frozen=True)
class Member:
    """A form in a forecast. Rows weigh (scale / largest scale)^late; the scale is compute or x."""

    form: Form
    late: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.form.name}_late" if self.late else self.form.name


@dataclass(frozen=True)
class Fold:
    """Which rows are known and which are asked for."""

    known_N: np.ndarray
    asked_N: np.ndarray

    @property
    def held_back(self) -> float:
        """Share of the rows that are not known."""
        return float(1 - self.known_N.mean())


def of_runs(scale_N: np.ndarray) -> list[Fold]:
    """Folds that hold back the rows of the largest scale (FLOPs); none is made twice."""
    order = np.argsort(scale_N, kind="stable")
    n = len(scale_N)
    cuts = dict.fromkeys(float(scale_N[order[n - max(1, round(share * n))]]) for share in HELD_BACK)
    return [Fold(scale_N < cut, scale_N >= cut) for cut in cuts if scale_N.min() < cut]


def of_curve(x_N: np.ndarray) -> list[Fold]:
    """Folds that end at a fraction of the largest x; none is made twice."""
    found: list[Fold] = []
    for cut in CUTS:
        known = x_N <= cut * x_N.max() * (1 + 1e-9)
        asked = ~known & (x_N <= AHEAD * cut * x_N.max() * (1 + 1e-9))
        if known.any() and asked.any():
            found.append(Fold(known, asked))
    return found


def backtest(
    table: Table,
    members: Sequence[Member],
    folds: Sequence[Fold],
    objective: Objective,
) -> tuple[dict[str, list[float]], list[Fold], list[Notice]]:
    """(root mean square log errors per member and fold, the folds that count, notices).

    A fold counts where at least half of the members can be fitted to it; a member that cannot be
    fitted to a fold that counts has no errors.
    """
    scores = [{m.name: _score(table, m, fold, objective) for m in members} for fold in folds]
    enough = [2 * np.isfinite(list(score.values())).sum() >= len(members) for score in scores]
    counts = [fold for fold, counted in zip(folds, enough, strict=True) if counted]
    kept = [score for score, counted in zip(scores, enough, strict=True) if counted]
    errors = {m.name: [score[m.name] for score in kept] for m in members}
    warnings = [
        Notice(notices.NO_BACKTEST, f"{name}: no backtest, some folds have too few rows for it")
        for name, found in errors.items()
        if not np.isfinite(found).all()
    ]
    if len(counts) < len(folds):
        text = f"{len(folds) - len(counts)} of {len(folds)} folds have too few rows"
        warnings.append(Notice(notices.FEW_FOLDS, text))
    whole = {name: found if np.isfinite(found).all() else [] for name, found in errors.items()}
    return whole, counts, warnings


def _score(table: Table, member: Member, fold: Fold, objective: Objective) -> float:
    """Root mean square log error on the rows asked for; NaN where the known rows give no law."""
    form = member.form
    known = table.rows(fold.known_N)
    try:
        checks.require_spread(known, form, len(form.parameters))
    except CannotFit:
        return float("nan")
    weights_N = fold.known_N * checks.lateness(table, form, member.late)
    weights_N = weights_N / weights_N.max()
    solver = Solver.of(table, form, objective, weights_N=weights_N)
    # the grid of starts may know the known rows only
    grid_RP = form.starts(solver.logs_NF[fold.known_N], solver.target_N[fold.known_N])
    solution, _ = solver.from_grid(solver.nearest(grid_RP, STARTS))
    value = solver.ranked(solution)
    if not np.isfinite(value).any():
        return float("nan")
    missed = solver.log_residuals(solution.params_RP[value.argmin()])
    return float(np.sqrt(np.mean(missed[fold.asked_N] ** 2)))
