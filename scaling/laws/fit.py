"""Fit a form to a table from many starts, with bootstrap intervals and a verdict.

Shapes: N rows, P parameters, R starts, B resamples.

The lowest objective of all starts wins, and a fit reports the share of starts that reach it.
Intervals are bias-corrected percentiles over refits to resampled runs (Efron 1979, 1981).
`benchmarks/coverage.py` measures how often they contain the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from scaling.laws import agreement, checks, diagnose, evidence
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.closed_form import closed_form
from scaling.laws.covariance import standard_errors
from scaling.laws.forms.base import Form
from scaling.laws.forms.registry import FORMS
from scaling.laws.multistart import Solver, log_prediction
from scaling.laws.objective import Objective, robust_scale
from scaling.laws.table import CannotFit, Table
from scaling.utils.notices import Notice


@dataclass(frozen=True)
class Fit:
    """A law, its uncertainty and its diagnosis."""

    form: Form
    values: dict[str, float]  # the form's parameters
    intervals: dict[str, Interval]  # of the parameters; and a = beta / (alpha + beta) if both exist
    objective: float
    described: str  # the objective in words, with its threshold
    delta: float  # Huber threshold used
    reached: float  # share of starts that reached the optimum
    converged: np.ndarray  # per start, True if no step lowered its objective further
    n_rows: int
    n_blocks: int  # number of resampled blocks, or of rows if single rows were resampled
    n_free: int
    residuals: np.ndarray  # log target - log prediction, per row
    spread: float  # standard deviation of a new run about the law, in log target
    share_N: np.ndarray  # weight of each row by its lateness; sums to the number of rows
    params_P: np.ndarray = field(repr=False)  # on the solver's scale
    draws_BP: np.ndarray = field(repr=False)  # refits, on the solver's scale
    hessian_se: dict[str, float]  # sandwich standard errors at the optimum, as a cross-check
    other_minima: tuple[float, ...]  # objectives of distinct local minima within 5% of the lowest
    warnings: tuple[Notice, ...]
    verdict: str  # "good" | "weakly identified" | "doubtful"
    confidence: float

    @property
    def equation(self) -> str:
        return self.form.equation

    @property
    def freedom(self) -> int:
        """Return the degrees of freedom, at least 1.

        They are the effective number of rows less the fitted parameters, or the number of blocks
        less one if that is smaller.
        """
        effective = self.share_N.sum() ** 2 / np.sum(self.share_N**2)
        return max(min(round(effective - self.n_free), self.n_blocks - 1), 1)

    @property
    def draws(self) -> np.ndarray:
        """Return `[B, P]` refits in the form's own parameters."""
        return self.form.natural(self.draws_BP)

    def predict(self, *inputs):
        """Return the predicted target at `inputs`, arrays in the order of `form.inputs`."""
        shape = np.broadcast_shapes(*(np.shape(x) for x in inputs))
        return np.exp(log_prediction(self.form, self.params_P[None], _logs(inputs))[0]).reshape(
            shape
        )

    def mean_draws(self, *inputs) -> np.ndarray:
        """Return `[B, N]` predictions of every refit."""
        return np.exp(log_prediction(self.form, self.draws_BP, _logs(inputs)))

    def mean_interval(self, *inputs) -> Interval:
        """Return the interval of the law at one point, without the scatter of single runs."""
        draws = self.mean_draws(*inputs)[:, 0]
        value = float(np.ravel(self.predict(*inputs))[0])
        return interval(value, draws, self.confidence, self.freedom)

    def prediction_draws(self, *inputs, seed: int = 0) -> np.ndarray:
        """Return `[B, N]` draws of the target of new runs.

        Each draw is a refit's prediction times the scatter of one run. The scatter is drawn from
        the residuals, widened for the fitted parameters.
        """
        rng = np.random.default_rng(seed)
        means = self.mean_draws(*inputs)
        rows = self.share_N.sum() ** 2 / np.sum(self.share_N**2)
        widened = self.residuals * np.sqrt(rows / max(rows - self.n_free, 1))
        chance = self.share_N / self.share_N.sum()
        return means * np.exp(rng.choice(widened, means.shape, p=chance))

    def prediction_interval(self, *inputs) -> Interval:
        """Return the interval of a new run at one point, never narrower than `mean_interval`."""
        value = float(np.ravel(self.predict(*inputs))[0])
        draws = self.prediction_draws(*inputs)[:, 0]
        run = interval(value, draws, self.confidence, self.freedom)
        law = self.mean_interval(*inputs)
        return replace(run, low=min(run.low, law.low), high=max(run.high, law.high))

    def optimum(self, flops: float, flops_per_n_d: float = 6.0) -> tuple[Interval, Interval]:
        """Return the intervals of N* and D* at `flops` = flops_per_n_d * N * D.

        Raises CannotFit for a form without an optimum in closed form.
        """
        product = flops / flops_per_n_d
        value = closed_form(self.form.name, self.form.natural(self.params_P[None]), product)
        draws = closed_form(self.form.name, self.draws, product)
        n_opt, tokens_opt = (
            interval(float(v[0]), x, self.confidence, self.freedom)
            for v, x in zip(value, draws, strict=True)
        )
        return n_opt, tokens_opt


def _logs(inputs) -> np.ndarray:
    arrays = np.broadcast_arrays(*(np.asarray(x, float) for x in inputs))
    return np.stack([np.log(a).ravel() for a in arrays], axis=1)


def fit(
    table: Table,
    form: Form | str = "chinchilla",
    *,
    objective: Objective | None = None,
    bootstrap: int = 500,
    confidence: float = 0.9,
    blocks: str = "",
    fixed: Mapping[str, float] | None = None,
    late: float = 0.0,
    seed: int = 0,
) -> Fit:
    """Fit a form to a table. Raises CannotFit if its rows do not determine a law in its domain.

    `blocks` names a column of at least three values, such as "seed" or "n_params", whose rows are
    resampled together; "" resamples single runs. `fixed` holds parameters at given values. A column
    loss_se weighs the rows by inverse variance. `late` weighs them by (compute / largest
    compute)^late (x without compute), for a law of the end of a curve.
    """
    form = FORMS[form] if isinstance(form, str) else form
    objective = objective or Objective()
    free_P = _free(form, fixed or {})
    n_free = int(free_P.sum())
    checks.require_spread(table, form, n_free)
    n_blocks = checks.require_blocks(table, blocks) if blocks and bootstrap else len(table)
    solver = Solver.of(table, form, objective, free_P=free_P)
    grid_RP = form.starts(solver.logs_NF, solver.target_N)
    grid_RP = np.unique(_hold(form, grid_RP, fixed or {}, free_P), axis=0)
    late_N = checks.lateness(table, form, late)
    share_N = late_N / late_N.mean()
    solver = replace(solver, weights_N=_weights(table, solver, grid_RP) * share_N)
    solution, delta = solver.from_grid(grid_RP)
    value_R = solver.ranked(solution)
    if not np.isfinite(value_R).any():
        raise CannotFit(
            f"{form.name}: no start ends in the form's domain (positive exponents); the "
            f"{form.target} does not fall with {' and '.join(form.inputs)}"
        )
    if n_free > 1 and not form.product:  # a product's exponents may be 0
        solver.require_better_than_constant(solution.params_RP[value_R.argmin()], delta)
    params_P, draws_BP, lowest = solver.settled(
        solution, value_R, bootstrap, table[blocks] if blocks else None, delta, seed
    )
    seen, intervals = evidence.gather(
        table, solver, solution, value_R=value_R, lowest=lowest, params_P=params_P,
        draws_BP=draws_BP, share_N=share_N, delta=delta, fixed=fixed or {}, confidence=confidence,
        freedom=min(len(table) - n_free, n_blocks - 1),
    )  # fmt: skip
    fit_notices = [
        *checks.input_warnings(table, form, n_free, n_blocks if blocks and bootstrap else None),
        *diagnose.warnings(seen),
    ]
    if "a" in intervals and blocks == "":
        fit_notices += agreement.of_law(table, seen.intervals["a"], evidence.JUDGED, confidence)
    residuals = solver.log_residuals(params_P)
    return Fit(
        form=form,
        values=seen.values,
        intervals=intervals,
        objective=lowest,
        described=objective.describe(delta, form.target),
        delta=delta,
        reached=seen.reached,
        converged=solution.converged_R,
        n_rows=len(table),
        n_blocks=n_blocks,
        n_free=n_free,
        residuals=residuals,
        spread=robust_scale(residuals, n_free, share_N),
        share_N=share_N,
        params_P=params_P,
        draws_BP=draws_BP,
        hessian_se=standard_errors(
            form, params_P, solver.logs_NF, residuals, solver.weights_N, delta, free_P
        ),
        other_minima=seen.minima[1:],
        warnings=tuple(fit_notices),
        verdict=diagnose.verdict(fit_notices),
        confidence=confidence,
    )


def fit_chinchilla(table: Table, *, delta: float = 0.0, **options) -> Fit:
    """Fit Chinchilla's law with a Huber loss (Hoffmann et al. 2022, approach 3).

    `options` are those of `fit`. At fixed compute C = k N D the optimum has a closed form:

        N* = G (C / k)^a,  D* = (C / k)^b / G,  G = (alpha A / beta B)^(1 / (alpha + beta)),
        a = beta / (alpha + beta),  b = alpha / (alpha + beta)
    """
    return fit(table, "chinchilla", objective=Objective(delta=delta), **options)


def _free(form: Form, fixed: Mapping[str, float]) -> np.ndarray:
    unknown = set(fixed) - set(form.parameters)
    if unknown:
        raise CannotFit(
            f"{form.name}: cannot fix {', '.join(sorted(unknown))}; its parameters are "
            f"{', '.join(form.parameters)}"
        )
    if fixed and not form.invertible:
        raise CannotFit(f"{form.name}: its parameters cannot be held fixed")
    return np.array([name not in fixed for name in form.parameters])


def _hold(form: Form, grid_RP, fixed: Mapping[str, float], free_P) -> np.ndarray:
    """Return the grid with fixed parameters set."""
    if not fixed:
        return grid_RP
    natural_RP = form.natural(grid_RP)
    for name, value in fixed.items():
        natural_RP[:, form.parameters.index(name)] = value
    held_RP = form.internal(natural_RP)
    if not np.isfinite(held_RP[:, ~free_P]).all():
        raise CannotFit(f"{form.name}: fixed values {dict(fixed)} lie outside the form's domain")
    return np.where(free_P, grid_RP, held_RP)


def _weights(table: Table, solver: Solver, grid_RP) -> np.ndarray:
    """Return `[N]` weights by inverse variance from loss_se, or ones without it.

    A run's variance is that of its evaluation plus that between runs. The second is the rest of the
    residuals' variance in an unweighted fit (DerSimonian & Laird 1986).
    """
    if "loss_se" not in table or solver.form.target != "loss":
        return solver.weights_N
    relative_N = table["loss_se"] / table["loss"]
    squares, _ = replace(solver, objective=Objective("least_squares")).from_grid(grid_RP)
    residuals = solver.log_residuals(squares.best_P)
    n_free = int(solver.free_P.sum())
    scatter = max(robust_scale(residuals, n_free) ** 2 - np.mean(relative_N**2), 0.0)
    variance_N = relative_N**2 + scatter
    return np.mean(variance_N) / variance_N
