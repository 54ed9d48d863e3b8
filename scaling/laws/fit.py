"""Fit any form to a table: many starts at once, a bootstrap, and a verdict.

Shapes: N rows, P parameters, R starts, B resamples.

The lowest objective of all starts wins, and how many starts reach it is part of the answer. The
intervals are percentiles over refits to resampled runs (Efron 1979); `benchmarks/coverage.py` measures how
often they hold the truth.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.laws import checks, diagnose
from scaling.laws.bootstrap import Interval, interval, resample_counts
from scaling.laws.covariance import standard_errors
from scaling.laws.forms import FORMS
from scaling.laws.forms.base import Form
from scaling.laws.objective import HUBER_EFFICIENT, L1_DELTA, Objective, robust_scale
from scaling.laws.optimum import closed_form
from scaling.laws.solve import Solution, minimise
from scaling.laws.table import CannotFit, Table

REACHED = (
    1e-6  # relative excess of objective under which a start counts as having reached the optimum
)
STARTS_PER_RESAMPLE = 3
WORTHLESS = 0.8  # share of the objective of a constant loss above which a law says nothing
LEAST_SQUARES = 1e6  # a Huber threshold that no residual reaches


@dataclass(frozen=True)
class Fit:
    """A law, its uncertainty and what to think of it."""

    form: Form
    values: dict[str, float]  # the form's parameters
    intervals: dict[str, Interval]  # the same; and a = beta / (alpha + beta) where both are there
    objective: float
    described: str  # the objective in words, with its threshold
    delta: float  # Huber threshold used
    reached: float  # fraction of starts that reached the optimum
    converged: np.ndarray  # per start: no step lowered its objective further
    n_rows: int
    n_free: int
    residuals: np.ndarray  # log target - log prediction, per row
    spread: float  # standard deviation of a new run about the law, in log target
    params_P: np.ndarray = field(repr=False)  # on the solver's scale
    draws_BP: np.ndarray = field(repr=False)  # refits, on the solver's scale
    hessian_se: dict[str, float]  # a cross-check: sandwich standard errors at the optimum
    other_minima: tuple[float, ...]  # objectives of distinct local minima within 5% of the lowest
    warnings: tuple[str, ...]
    verdict: str  # "good" | "weakly identified" | "doubtful"
    confidence: float

    @property
    def equation(self) -> str:
        return self.form.equation

    @property
    def draws(self) -> np.ndarray:
        """`[B, P]` refits in the form's own parameters."""
        return self.form.natural(self.draws_BP)

    def predict(self, *inputs):
        """Predicted target at `inputs`, arrays in the order of `form.inputs`."""
        shape = np.broadcast_shapes(*(np.shape(x) for x in inputs))
        return np.exp(log_prediction(self.form, self.params_P[None], _logs(inputs))[0]).reshape(
            shape
        )

    def mean_draws(self, *inputs) -> np.ndarray:
        """`[B, N]` predictions of every refit."""
        return np.exp(log_prediction(self.form, self.draws_BP, _logs(inputs)))

    def mean_interval(self, *inputs) -> Interval:
        """Interval for the law itself at one point, without the scatter of single runs."""
        draws = self.mean_draws(*inputs)[:, 0]
        return interval(float(np.ravel(self.predict(*inputs))[0]), draws, self.confidence)

    def prediction_draws(self, *inputs, seed: int = 0) -> np.ndarray:
        """`[B, N]` losses of new runs: refits and the scatter of one run, drawn from the residuals.

        Residuals are widened for the fitted parameters.
        """
        rng = np.random.default_rng(seed)
        means = self.mean_draws(*inputs)
        widened = self.residuals * np.sqrt(self.n_rows / max(self.n_rows - self.n_free, 1))
        return means * np.exp(rng.choice(widened, means.shape))

    def prediction_interval(self, *inputs) -> Interval:
        """Interval for the loss of a new run at one point; wider than `mean_interval`."""
        value = float(np.ravel(self.predict(*inputs))[0])
        return interval(value, self.prediction_draws(*inputs)[:, 0], self.confidence)

    def optimum(self, flops: float, flops_per_n_d: float = 6.0) -> tuple[Interval, Interval]:
        """N* and D* at `flops` = flops_per_n_d * N * D, with intervals.

        Raises CannotFit for forms that are not laws of n_params and tokens.
        """
        product = flops / flops_per_n_d
        value = closed_form(self.form.name, self.form.natural(self.params_P[None]), product)
        drawn = closed_form(self.form.name, self.draws, product)
        n_opt, tokens_opt = (
            interval(float(v[0]), x, self.confidence) for v, x in zip(value, drawn, strict=True)
        )
        return n_opt, tokens_opt


def _logs(inputs) -> np.ndarray:
    arrays = np.broadcast_arrays(*(np.asarray(x, float) for x in inputs))
    return np.stack([np.log(a).ravel() for a in arrays], axis=1)


@functools.lru_cache(maxsize=64)
def _compiled(predict):
    import jax

    return jax.jit(jax.vmap(predict, in_axes=(0, None)))


def log_prediction(form: Form, params_RP, logs_NF) -> np.ndarray:
    """`[R, N]` log predictions of many laws at many points."""
    import jax

    with jax.enable_x64(True):
        many = _compiled(form.log_predict)
        return np.asarray(many(np.asarray(params_RP, float), np.asarray(logs_NF, float)))


def fit(
    table: Table,
    form: Form | str = "chinchilla",
    *,
    objective: Objective | None = None,
    bootstrap: int = 500,
    confidence: float = 0.9,
    blocks: str = "",
    fixed: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Fit:
    """Fit a form to a table.

    `blocks` names a column whose rows are resampled together ("seed", "n_params"); "" resamples single runs.
    `fixed` holds parameters at given values. A column loss_se, if the table has it, weighs the rows.
    Raises CannotFit where rows are too few or too alike, or no start ends at a law of the form's domain.
    """
    form = FORMS[form] if isinstance(form, str) else form
    objective = objective or Objective()
    free_P = _free(form, fixed or {})
    n_free = int(free_P.sum())
    checks.require_spread(table, form, n_free)
    logs_NF = np.log(np.stack([table[name] for name in form.inputs], axis=1))
    target_N = np.log(table[form.target])
    grid_RP = form.starts(logs_NF, target_N)
    grid_RP = np.unique(_hold(form, grid_RP, fixed or {}, free_P), axis=0)
    weights_N = _weights(form, logs_NF, target_N, table, grid_RP, free_P)
    solver = Solver(form, logs_NF, target_N, weights_N, free_P, objective)
    solution, delta, value_R = solver.from_grid(grid_RP)
    natural_RP = form.natural(solution.params_RP)
    legal_R = np.isfinite(value_R) & form.legal(natural_RP)
    if not legal_R.any():
        raise CannotFit(
            f"{form.name}: no start ends in the form's domain (positive exponents); the "
            f"{form.target} does not fall with {' and '.join(form.inputs)}"
        )
    value_R = np.where(legal_R, value_R, np.inf)
    best = int(value_R.argmin())
    lowest = float(value_R[best])
    solver.require_better_than_constant(solution.params_RP[best], delta)
    params_P, draws_BP, lowest = solver.settled(
        solution.params_RP, value_R, bootstrap, table[blocks] if blocks else None, delta, seed
    )
    residuals = target_N - log_prediction(form, params_P[None], logs_NF)[0]

    values = dict(zip(form.parameters, form.natural(params_P[None])[0].tolist(), strict=True))
    natural_BP = form.natural(draws_BP)
    intervals = {
        name: interval(values[name], natural_BP[:, i], confidence)
        for i, name in enumerate(form.parameters)
    }
    if {"alpha", "beta"} <= set(values):
        alpha, beta = (natural_BP[:, form.parameters.index(n)] for n in ("alpha", "beta"))
        a = values["beta"] / (values["alpha"] + values["beta"])
        intervals["a"] = interval(a, beta / (alpha + beta), confidence)
    minima = (float(value_R[i]) for i in _distinct(value_R))
    close = (lowest, *(v for v in minima if lowest * (1 + 1e-5) < v <= 1.05 * lowest))
    reached = float((value_R <= lowest * (1 + REACHED) + 1e-15).mean())
    found = diagnose.warnings(
        table, form, values, intervals, residuals, reached, delta, objective, close, fixed or {}
    )
    found = [*checks.input_warnings(table, form), *found]
    return Fit(
        form=form,
        values=values,
        intervals=intervals,
        objective=lowest,
        described=objective.describe(delta),
        delta=delta,
        reached=reached,
        converged=solution.converged_R,
        n_rows=len(table),
        n_free=n_free,
        residuals=residuals,
        spread=robust_scale(residuals, n_free),
        params_P=params_P,
        draws_BP=draws_BP,
        hessian_se=standard_errors(form, params_P, logs_NF, residuals, weights_N, delta, free_P),
        other_minima=close[1:],
        warnings=tuple(found),
        verdict=diagnose.verdict(found),
        confidence=confidence,
    )


def fit_chinchilla(table: Table, *, delta: float = 0.0, **options) -> Fit:
    """Approach 3 of Hoffmann et al. 2022: `fit` with form chinchilla and a Huber loss.

    At fixed compute C = k N D the optimum follows in closed form:

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
    if fixed and form.internal is None:
        raise CannotFit(f"{form.name}: its parameters cannot be held fixed")
    return np.array([name not in fixed for name in form.parameters])


def _hold(form: Form, grid_RP, fixed: Mapping[str, float], free_P) -> np.ndarray:
    """The grid with fixed parameters set."""
    if not fixed:
        return grid_RP
    natural_RP = form.natural(grid_RP)
    for name, value in fixed.items():
        natural_RP[:, form.parameters.index(name)] = value
    assert form.internal is not None
    held = form.internal(natural_RP)
    if not np.isfinite(held[:, ~free_P]).all():
        raise CannotFit(f"{form.name}: fixed values {dict(fixed)} lie outside the form's domain")
    return np.where(free_P, grid_RP, held)


def _weights(form, logs_NF, target_N, table: Table, grid_RP, free_P) -> np.ndarray:
    """Inverse variances from loss_se, with the scatter beyond it estimated; ones without it.

    A run's variance is that of its evaluation plus what runs differ by; the second is what is left of
    the residuals' variance in an unweighted fit (DerSimonian & Laird 1986).
    """
    if "loss_se" not in table or form.target != "loss":
        return np.ones(len(table))
    relative_N = table["loss_se"] / table["loss"]
    plain = Solver(form, logs_NF, target_N, np.ones(len(table)), free_P, Objective("least_squares"))
    solution, _, value_R = plain.from_grid(grid_RP)
    params_P = solution.params_RP[np.where(np.isfinite(value_R), value_R, np.inf).argmin()]
    residuals = target_N - log_prediction(form, params_P[None], logs_NF)[0]
    scatter = max(robust_scale(residuals, int(free_P.sum())) ** 2 - np.mean(relative_N**2), 0.0)
    variance_N = relative_N**2 + scatter
    return np.mean(variance_N) / variance_N


def _distinct(value_R: np.ndarray) -> list[int]:
    """One start per distinct local minimum, from the lowest objective up."""
    found: list[int] = []
    for i in np.argsort(value_R):
        if not np.isfinite(value_R[i]):
            break
        if all(value_R[i] > value_R[j] * (1 + 1e-5) + 1e-15 for j in found):
            found.append(int(i))
        if len(found) == 8:
            break
    return found


@dataclass(frozen=True)
class Solver:
    """The solver bound to one table and one objective."""

    form: Form
    logs_NF: np.ndarray
    target_N: np.ndarray
    weights_N: np.ndarray
    free_P: np.ndarray
    objective: Objective

    def _minimise(self, weights_RN, starts_RP, delta: float, **options) -> Solution:
        return minimise(
            self.form.log_predict,
            self.logs_NF,
            self.target_N,
            weights_RN,
            starts_RP,
            delta=delta,
            linear=self.objective.linear,
            quantile=self.objective.quantile,
            free_P=self.free_P,
            **options,
        )

    def _both_ways(self, grid_RP, delta: float) -> Solution:
        """From every start, with and without the pull towards the middle of the grid."""
        plain = self._minimise(self.weights_N[None], grid_RP, delta)
        pulled = self._minimise(
            self.weights_N[None], grid_RP, delta, centre_P=np.median(grid_RP, axis=0)
        )
        better = pulled.objective_R < plain.objective_R
        pick = np.where(np.isnan(plain.objective_R), True, better)
        return Solution(
            np.where(pick[:, None], pulled.params_RP, plain.params_RP),
            *(
                np.where(pick, getattr(pulled, name), getattr(plain, name))
                for name in ("objective_R", "gradient_R", "converged_R")
            ),
        )

    def residuals(self, params_P) -> np.ndarray:
        """Residuals on the scale of the objective."""
        log_N = log_prediction(self.form, params_P[None], self.logs_NF)[0]
        if self.objective.linear:
            return np.exp(self.target_N) - np.exp(log_N)
        return self.target_N - log_N

    def from_grid(self, grid_RP) -> tuple[Solution, float, np.ndarray]:
        """(solutions, threshold used, objective of each start in the objective's own units)."""
        kind, delta = self.objective.kind, self.objective.delta
        if kind == "l1":
            solution = self._both_ways(grid_RP, L1_DELTA)
            return solution, L1_DELTA, solution.objective_R / L1_DELTA
        if kind == "least_squares" or delta == 0:
            solution = self._both_ways(grid_RP, LEAST_SQUARES)
            if kind == "least_squares":
                return solution, LEAST_SQUARES, solution.objective_R
            best = np.where(
                np.isfinite(solution.objective_R), solution.objective_R, np.inf
            ).argmin()
            residuals = self.residuals(solution.params_RP[best])[self.weights_N > 0]
            scale = robust_scale(residuals, int(self.free_P.sum()))
            delta = max(HUBER_EFFICIENT * scale, 1e-9)
        if kind == "likelihood":
            delta = self._profiled_scale(grid_RP, delta) * delta
            solution = self._both_ways(grid_RP, delta)
            return solution, delta, solution.objective_R
        solution = self._both_ways(grid_RP, delta)
        return solution, delta, solution.objective_R

    def _profiled_scale(self, grid_RP, delta: float) -> float:
        """The s that minimises n log s + sum huber_delta(r / s) together with the law."""
        n = len(self.target_N)
        scale, start = 1.0, grid_RP
        for _ in range(40):
            solution = self._minimise(self.weights_N[None], start, max(delta * scale, L1_DELTA))
            best = np.where(
                np.isfinite(solution.objective_R), solution.objective_R, np.inf
            ).argmin()
            start = solution.params_RP[best][None]
            residuals = np.abs(self.residuals(start[0]))
            before = scale
            for _ in range(200):  # stationary scale: s^2 n = sum of r psi(r / s) s
                psi = np.minimum(residuals / scale, delta)
                updated = float(np.sum(residuals * psi) / n)
                if abs(updated / scale - 1) < 1e-12:
                    break
                scale = max(updated, 1e-12)
            if abs(scale / before - 1) < 1e-9:
                break
        return scale

    def settled(self, params_RP, value_R, bootstrap: int, groups, delta: float, seed: int):
        """(best law, refits `[B, P]`, lowest objective), after the refits were tried as starts.

        A refit to resampled rows lies in whatever valley those rows prefer, so from there the whole
        table may lead to a lower minimum than the grid found; then the refits are made again.
        """
        counts_BN = resample_counts(len(self.target_N), bootstrap, groups, seed)
        order = _distinct(value_R)
        near, lowest = params_RP[order[:STARTS_PER_RESAMPLE]], float(value_R[order[0]])
        for _ in range(3):
            draws_BP = self.resampled(counts_BN, near, delta)
            known = draws_BP[np.isfinite(draws_BP).all(axis=1)]
            if not len(known):
                break
            again = self._minimise(self.weights_N[None], known, delta, near=True)
            legal = self.form.legal(self.form.natural(again.params_RP))
            value = np.where(legal & np.isfinite(again.objective_R), again.objective_R, np.inf)
            if self.objective.kind == "l1":
                value = value / L1_DELTA
            best = int(value.argmin())
            if not value[best] < lowest * (1 - REACHED) - 1e-15:
                break
            near = np.concatenate([again.params_RP[best][None], near])[:STARTS_PER_RESAMPLE]
            lowest = float(value[best])
        return near[0], draws_BP, lowest

    def resampled(self, counts_BN, near_SP, delta: float) -> np.ndarray:
        """`[B, P]` refits, each the best of a few starts."""
        resamples, starts = len(counts_BN), len(near_SP)
        if not resamples:
            return np.empty((0, near_SP.shape[1]))
        again = self._minimise(
            np.repeat(counts_BN * self.weights_N, starts, axis=0),
            np.tile(near_SP, (resamples, 1)),
            delta,
            near=True,
        )
        value = np.where(np.isfinite(again.objective_R), again.objective_R, np.inf)
        pick = value.reshape(resamples, -1).argmin(axis=1) + np.arange(resamples) * starts
        draws = again.params_RP[pick]
        bad = ~np.isfinite(value[pick]) | ~self.form.legal(self.form.natural(draws))
        return np.where(bad[:, None], np.nan, draws)

    def require_better_than_constant(self, params_P, delta: float) -> None:
        """Raises CannotFit where the law explains hardly more than the median does."""
        target = np.exp(self.target_N) if self.objective.linear else self.target_N

        def total(residuals):
            size = np.abs(residuals)
            rho = np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))
            return float(np.sum(self.weights_N * rho))

        flat = total(target - np.median(target))
        if not total(self.residuals(params_P)) < WORTHLESS * flat:
            raise CannotFit(
                f"{self.form.name}: the law is hardly better than a constant; the "
                f"{self.form.target} does not fall with {' and '.join(self.form.inputs)}"
            )
