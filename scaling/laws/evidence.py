"""Gather what the verdict on a fit depends on: intervals, dead parameters, other minima.

Shapes: N rows, P parameters, R starts, B refits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaling.laws import residual_tests
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.covariance import jacobian
from scaling.laws.forms.base import Form
from scaling.laws.multistart import REACHED, Solver, distinct
from scaling.laws.newton import Solution
from scaling.laws.objective import Objective
from scaling.laws.table import Table

JUDGED = 200  # the verdict reads the first so many refits, so that more refits do not change it
MUCH_BETTER = 10.83  # log likelihood ratio, twice, whose chance is 1 in 1000
STILL = 1e-6  # relative range of refits that do not move


@dataclass(frozen=True)
class Evidence:
    """Everything that the verdict on a fit depends on. Rows are those that count in the fit."""

    table: Table
    form: Form
    values: dict[str, float]
    intervals: dict[str, Interval]  # of the first `JUDGED` refits
    dead: tuple[str, ...]  # parameters that no row informs about
    params_P: np.ndarray
    residuals: np.ndarray
    reached: float  # share of starts that reached the optimum
    delta: float
    objective: Objective
    minima: tuple[float, ...]
    fixed: Mapping[str, float]
    refits: int  # asked for
    failed: float  # share of the first `JUDGED` that found no law in the domain
    confidence: float
    rising: str  # parameters of a law that rises and fits better, or ""


def gather(
    table: Table,
    solver: Solver,
    solution: Solution,
    *,
    value_R: np.ndarray,
    lowest: float,
    params_P: np.ndarray,
    draws_BP: np.ndarray,
    share_N: np.ndarray,
    delta: float,
    fixed: Mapping[str, float],
    confidence: float,
    freedom: int,
) -> tuple[Evidence, dict[str, Interval]]:
    """Return what the verdict depends on, and the intervals from all refits `draws_BP`.

    `value_R` are the objectives of the starts' solutions, `lowest` is that of `params_P`.
    """
    form, residuals = solver.form, solver.log_residuals(params_P)
    values = dict(zip(form.parameters, form.natural(params_P[None])[0].tolist(), strict=True))
    natural_BP = form.natural(draws_BP)
    judged_BP = natural_BP[:JUDGED]
    slopes_NP = jacobian(form, params_P, solver.logs_NF)
    dead = dead_parameters(form, slopes_NP, params_P, values, residuals, judged_BP, solver.free_P)
    intervals, judged = (
        _intervals(form, values, draws, confidence, freedom, dead)
        for draws in (natural_BP, judged_BP)
    )
    late_rows = share_N >= 0.05 * share_N.max()  # a late law may miss the early rows
    seen = Evidence(
        table=table.rows(late_rows),
        form=form,
        values=values,
        intervals=judged,
        dead=dead,
        params_P=params_P,
        residuals=residuals[late_rows],
        reached=float((value_R <= lowest * (1 + REACHED) + 1e-15).mean()),
        delta=delta,
        objective=solver.objective,
        minima=_close_minima(value_R, lowest),
        fixed=fixed,
        refits=len(draws_BP),
        failed=float(np.mean(~np.isfinite(judged_BP).all(axis=1))) if len(judged_BP) else 0.0,
        confidence=confidence,
        rising=_rising(form, solution, value_R, len(table)),
    )
    return seen, intervals


def _close_minima(value_R, lowest: float) -> tuple[float, ...]:
    """Return the lowest objective and those of other local minima within 5% of it."""
    minima = (float(value_R[i]) for i in distinct(value_R))
    return (lowest, *(v for v in minima if lowest * (1 + 1e-5) < v <= 1.05 * lowest))


def _rising(form: Form, solution: Solution, value_R, n_rows: int) -> str:
    """Return the exponents below 0 of a law that fits much better than any with positive ones."""
    natural_RP = form.natural(solution.params_RP)
    columns = [form.parameters.index(name) for name in form.positive]
    rises = ~np.isfinite(value_R) & (natural_RP[:, columns] <= 0).any(axis=1)
    objective_R = np.where(rises, solution.value_R, np.inf)
    best = int(objective_R.argmin())
    legal = float(solution.value_R[value_R.argmin()])
    if not 0 <= objective_R[best] < legal * np.exp(-MUCH_BETTER / n_rows):
        return ""
    exponents = {name: natural_RP[best, form.parameters.index(name)] for name in form.positive}
    return ", ".join(f"{name} = {value:.2g}" for name, value in exponents.items() if value <= 0)


def _intervals(
    form: Form,
    values: dict[str, float],
    natural_BP,
    confidence: float,
    freedom: int,
    dead: tuple[str, ...] = (),
) -> dict[str, Interval]:
    """Return the interval of every parameter, and of a = beta / (alpha + beta) if both exist.

    Nothing is known about `dead` parameters: their intervals are NaN.
    """
    intervals = {
        name: interval(values[name], natural_BP[:, i], confidence, freedom)
        for i, name in enumerate(form.parameters)
    }
    if {"alpha", "beta"} <= set(values):
        alpha, beta = (natural_BP[:, form.parameters.index(n)] for n in ("alpha", "beta"))
        a = values["beta"] / (values["alpha"] + values["beta"])
        intervals["a"] = interval(a, beta / (alpha + beta), confidence, freedom)
    unknown = (*dead, *(["a"] if {"alpha", "beta"} & set(dead) and "a" in intervals else []))
    for name in unknown:
        intervals[name] = Interval(intervals[name].value, *(float("nan"),) * 3)
    return intervals


def dead_parameters(form: Form, slopes_NP, params_P, values, residuals, draws, free_P):
    """Return the names of fitted parameters whose terms vanish, so that no row informs on them.

    Such a parameter changes no prediction by its noise if it changes by its own size (a factor e
    if it is stored as a log). Or no refit, of `draws` `[B, P]`, moves it off its value while rows
    scatter about the law.
    """
    noise = float(np.sqrt(np.mean(residuals**2)))
    if noise < residual_tests.ROUNDING or form.product:
        return ()
    dead = []
    for i, name in enumerate(form.parameters):
        if not free_P[i]:
            continue
        size = 1.0
        if name not in form.stored_as_logs and form.invertible:
            size = abs(float(params_P[i]))
        weak = form.invertible and np.linalg.norm(slopes_NP[:, i]) * size < noise
        finite = draws[np.isfinite(draws[:, i]), i]
        still = len(finite) > 1 and float(np.ptp(finite)) <= STILL * abs(values[name])
        if (weak and name != "E") or still:
            dead.append(name)
    return tuple(dead)
