"""Solve one form on one table from a grid of starts, rank the solutions and refit resamples.

Shapes: N rows, P parameters, R starts, B resamples, S starts of a refit.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import resample_counts
from scaling.laws.forms.base import DEAD_FLOOR, Form
from scaling.laws.newton import WIDEST, Solution, minimise, padding
from scaling.laws.objective import HUBER_EFFICIENT, L1_DELTA, Objective, robust_scale
from scaling.laws.table import CannotFit, Table

REACHED = 1e-6  # largest relative excess of objective of a start that reached the optimum
STARTS_PER_RESAMPLE = 3
NEAREST = 64  # starts of a search that need not look everywhere
WORTHLESS = 0.8  # a law is refused above this share of the objective of a constant
LEAST_SQUARES = 1e6  # a Huber threshold above all residuals
EQUAL = 1e-12  # targets that differ by less, relative to the largest, are constant


@functools.lru_cache(maxsize=64)
def _compiled(predict):
    import jax

    return jax.jit(jax.vmap(predict, in_axes=(0, None)))


def log_prediction(form: Form, params_RP, logs_NF) -> np.ndarray:
    """Return `[R, N]` log predictions of laws `[R, P]` at log inputs `[N, F]`."""
    import jax

    params_RP, logs_NF = np.asarray(params_RP, float), np.asarray(logs_NF, float)
    rows, points = len(params_RP), len(logs_NF)
    if not rows or not points:
        return np.empty((rows, points))
    params_RP = np.pad(params_RP, ((0, padding(rows) if rows > 1 else 0), (0, 0)), "edge")
    logs_NF = np.pad(logs_NF, ((0, padding(points) if points > 1 else 0), (0, 0)), "edge")
    with jax.enable_x64(True):
        predict = _compiled(form.log_predict)
        return np.asarray(predict(params_RP, logs_NF))[:rows, :points]


def distinct(value_R: np.ndarray) -> list[int]:
    """Return one start per distinct local minimum, eight at most, from the lowest up."""
    minima: list[int] = []
    for i in np.argsort(value_R):
        if not np.isfinite(value_R[i]):
            break
        if all(value_R[i] > value_R[j] * (1 + 1e-5) + 1e-15 for j in minima):
            minima.append(int(i))
        if len(minima) == 8:
            break
    return minima


@dataclass(frozen=True)
class Solver:
    """A solver of one form, table and objective."""

    form: Form
    logs_NF: np.ndarray
    target_N: np.ndarray
    weights_N: np.ndarray
    free_P: np.ndarray
    objective: Objective

    @classmethod
    def of(cls, table: Table, form: Form, objective: Objective, weights_N=None, free_P=None):
        """Build the solver for a table; by default weights are ones and all parameters free."""
        return cls(
            form,
            np.log(np.stack([table[name] for name in form.inputs], axis=1)),
            np.log(table[form.target]),
            np.ones(len(table)) if weights_N is None else weights_N,
            np.ones(len(form.parameters), bool) if free_P is None else free_P,
            objective,
        )

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
        """Minimise from every start, with and without a pull towards the middle of the grid."""
        plain_solution = self._minimise(self.weights_N[None], grid_RP, delta)
        if delta >= WIDEST:
            return plain_solution  # the pull needs a threshold before the target
        pull_solution = self._minimise(
            self.weights_N[None], grid_RP, delta, centre_P=np.median(grid_RP, axis=0)
        )
        pick = np.isnan(plain_solution.objective_R) | (
            pull_solution.objective_R < plain_solution.objective_R
        )
        return Solution(
            np.where(pick[:, None], pull_solution.params_RP, plain_solution.params_RP),
            *(
                np.where(pick, getattr(pull_solution, name), getattr(plain_solution, name))
                for name in ("objective_R", "gradient_R", "converged_R")
            ),
        )

    def residuals(self, params_P) -> np.ndarray:
        """Return `[N]` residuals on the scale of the objective."""
        if self.objective.linear:
            return np.exp(self.target_N) - np.exp(self.target_N - self.log_residuals(params_P))
        return self.log_residuals(params_P)

    def log_residuals(self, params_P) -> np.ndarray:
        """Return `[N]` log target minus log prediction."""
        return self.target_N - log_prediction(self.form, params_P[None], self.logs_NF)[0]

    def nearest(self, grid_RP, count: int) -> np.ndarray:
        """Return the `count` starts of the least weighted squared log residuals."""
        log_RN = log_prediction(self.form, grid_RP, self.logs_NF)
        is_used = self.weights_N > 0
        residual_RN = np.abs(self.target_N - log_RN)[:, is_used]
        score_R = np.nan_to_num(residual_RN**2, nan=np.inf) @ self.weights_N[is_used]
        return grid_RP[np.argsort(score_R, kind="stable")[:count]]

    def from_grid(self, grid_RP) -> tuple[Solution, float]:
        """Return (solutions from every start, Huber threshold used)."""
        delta = self._threshold(grid_RP)
        return self._both_ways(grid_RP, delta), delta

    def _threshold(self, grid_RP) -> float:
        kind, delta = self.objective.kind, self.objective.delta
        if kind == "l1":
            return L1_DELTA
        if kind == "least_squares":
            return LEAST_SQUARES
        if delta == 0 and kind == "likelihood":
            delta = HUBER_EFFICIENT  # in units of the scale, which is fitted
        elif delta == 0:
            squares = self._both_ways(self.nearest(grid_RP, NEAREST), LEAST_SQUARES)
            is_used = self.weights_N > 0
            residuals = self.residuals(squares.best_P)[is_used]
            scale = robust_scale(residuals, int(self.free_P.sum()), self.weights_N[is_used])
            delta = max(HUBER_EFFICIENT * scale, 1e-9)
        if kind == "likelihood":
            delta *= self._profiled_scale(grid_RP, delta)
        return delta

    def ranked(self, solution: Solution) -> np.ndarray:
        """Return `[R]` objectives in their own units, infinite outside the form's domain."""
        legal = self.form.legal(self.form.natural(solution.params_RP))
        unit = L1_DELTA if self.objective.kind == "l1" else 1.0
        return np.where(legal, solution.value_R / unit, np.inf)

    def _profiled_scale(self, grid_RP, delta: float) -> float:
        """Return the s that minimises n log s + sum huber_delta(r / s) together with the law."""
        scale, start = 1.0, grid_RP
        for _ in range(40):
            solution = self._minimise(self.weights_N[None], start, max(delta * scale, L1_DELTA))
            start = solution.best_P[None]
            residuals = np.abs(self.residuals(start[0]))
            previous = scale
            for _ in range(200):  # stationary scale: s^2 sum(w) = sum of w r psi(r / s) s
                psi = np.minimum(residuals / scale, delta)
                new_scale = float(np.average(residuals * psi, weights=self.weights_N))
                if abs(new_scale / scale - 1) < 1e-12:
                    break
                scale = max(new_scale, 1e-12)
            if abs(scale / previous - 1) < 1e-9:
                break
        return scale

    def settled(self, solution: Solution, value_R, bootstrap: int, groups, delta, seed: int):
        """Return (best law, refits `[B, P]`, lowest objective), trying the refits as starts.

        A refit lies in the valley that its resampled rows prefer. From it, the whole table may
        reach a lower minimum than from the grid. The refits are then repeated.
        """
        counts_BN = resample_counts(len(self.target_N), bootstrap, groups, seed)
        at_rest_R = solution.converged_R | (value_R == value_R.min())
        order = distinct(np.where(at_rest_R, value_R, np.inf))
        starts, lowest = solution.params_RP[order[:STARTS_PER_RESAMPLE]], float(value_R[order[0]])
        starts = np.concatenate([starts, self._with_floor(starts[0])])
        for _ in range(3):
            draws_BP = self.resampled(counts_BN, starts, delta)
            finite_draws = draws_BP[np.isfinite(draws_BP).all(axis=1)]
            if not len(finite_draws):
                break
            near_SP = self.nearest(finite_draws, NEAREST)
            refined = self._minimise(self.weights_N[None], near_SP, delta, near=True)
            value = self.ranked(refined)
            best = int(value.argmin())
            if not value[best] < lowest * (1 - REACHED) - 1e-15:
                break
            starts = np.concatenate([refined.params_RP[best][None], starts])[:STARTS_PER_RESAMPLE]
            starts = np.concatenate([starts, self._with_floor(starts[0])])
            lowest = float(value[best])
        return starts[0], draws_BP, lowest

    def _with_floor(self, params_P) -> np.ndarray:
        """Return `[1, P]`, the law with a floor if its E is near 0, else `[0, P]`.

        At E near 0 the objective has no slope in log E. All refits would stay at it, and the
        interval of E would look exact.
        """
        names = self.form.parameters
        if "E" not in names or not self.free_P[names.index("E")]:
            return np.empty((0, len(params_P)))
        i, lowest = names.index("E"), float(np.exp(self.target_N[self.weights_N > 0].min()))
        if self.form.natural(params_P[None])[0, i] > DEAD_FLOOR * lowest:
            return np.empty((0, len(params_P)))
        live_P = np.array(params_P)
        live_P[i] = np.log(0.5 * lowest)
        return live_P[None]

    def resampled(self, counts_BN, near_SP, delta: float) -> np.ndarray:
        """Return `[B, P]` refits to resamples `[B, N]`, each the best of a few starts `[S, P]`."""
        resamples, starts = len(counts_BN), len(near_SP)
        if not resamples:
            return np.empty((0, near_SP.shape[1]))
        refits = self._minimise(
            np.repeat(counts_BN * self.weights_N, starts, axis=0),
            np.tile(near_SP, (resamples, 1)),
            delta,
            near=True,
            starts_per_problem=starts,
        )
        pick = refits.value_R.reshape(resamples, -1).argmin(axis=1) + np.arange(resamples) * starts
        draws = refits.params_RP[pick]
        bad = ~np.isfinite(refits.value_R[pick]) | ~self.form.legal(self.form.natural(draws))
        return np.where(bad[:, None], np.nan, draws)

    def require_better_than_constant(self, params_P, delta: float) -> None:
        """Raise CannotFit if the law is hardly better than the median."""
        target = np.exp(self.target_N) if self.objective.linear else self.target_N

        def total(residuals):
            size = np.abs(residuals)
            rho = np.where(size <= delta, size**2 / 2, delta * (size - delta / 2))
            return float(np.sum(self.weights_N * rho))

        constant = target - np.median(target)
        flat = np.abs(constant).max() <= EQUAL * np.abs(target).max()
        if flat or not total(self.residuals(params_P)) < WORTHLESS * total(constant):
            raise CannotFit(
                f"{self.form.name}: the law is hardly better than a constant; the "
                f"{self.form.target} does not fall with {' and '.join(self.form.inputs)}"
            )
