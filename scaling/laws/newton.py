"""Solve many small non-linear fits at once by damped Newton on Huber losses, in JAX and float64.

Shapes: R fits (starts or resamples), P parameters, N rows, F inputs.

The Huber threshold is lowered step by step to its target. A wide threshold is nearly least squares
and tolerates a bad start. The target is often nearly L1, where descent from far away stops early.
Fits that meet between two thresholds continue as one, and converged fits leave the batch. A grid of
thousands of starts therefore costs little more than its distinct paths.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from scaling.laws.newton_steps import ROUND, End, Shared, Start, compiled
from scaling.utils import machine, signals

STAGES = 6  # thresholds from the first to the target
WIDEST = 1.0  # first threshold, in units of the residual
EARLY_ROWS = 256  # rows that the thresholds before the last two look at, drawn once
EARLY_ITERATIONS = 12  # damped Newton steps at each threshold before the target
ITERATIONS = 96  # at most, at the target
CHUNK = 8  # fits of one call; few, so that the last slow ones do not drag others along
FIRST_DAMPING = 1e-3
PULL = 1e-2  # weight of the pull at the first threshold, per row
PULL_FADES, LEAST_PULL = 0.03, 1e-8  # factor per threshold, and the least weight
JOINED = 1e-7  # relative distance below which two fits of one problem join
FASTER = 3.0  # a fit that must gain this many times faster to matter is given up


@dataclass(frozen=True)
class Solution:
    """Result of `minimise`, one row per fit."""

    params_RP: np.ndarray
    objective_R: np.ndarray  # sum of weighted losses
    gradient_R: np.ndarray  # largest absolute derivative at the end
    converged_R: np.ndarray  # True if no step lowers the objective further

    @property
    def value_R(self) -> np.ndarray:
        """Return the objectives, infinite for failed fits."""
        return np.where(np.isfinite(self.objective_R), self.objective_R, np.inf)

    @property
    def best_P(self) -> np.ndarray:
        """Return the parameters of the lowest objective."""
        return self.params_RP[self.value_R.argmin()]


def minimise(
    predict: Callable,
    features_NF,
    target_N,
    weights_RN,
    starts_RP,
    *,
    delta: float,
    near: bool = False,
    linear: bool = False,
    quantile: float = 0.5,
    free_P=None,
    centre_P=None,
    starts_per_problem: int = 0,
) -> Solution:
    """Minimise sum_n weight_n rho(target_n - predict(params, features)_n) for every row of starts.

    rho is the Huber loss, times 2 q above the curve and 2 (1 - q) below it for quantile q.
    `predict(params_P, features_NF)` returns `[N]`. It must be a module-level function, since it is
    the key of the cache of compiled solvers. `target_N` may be `[R, N]`, one target per fit.
    `weights_RN` are 0 for rows left out and counts for bootstrap resamples. `near` starts the
    threshold close to its target, for starts close to the answer. `linear` compares exponentials of
    target and prediction. `free_P` marks the parameters to fit; the others keep their starts.
    `centre_P` is a plausible law. A pull towards it, strong at the first threshold and gone well
    before the target, restores terms that a start made too small to have a slope. Fits come in
    groups of `starts_per_problem` with one problem (0: all are one problem if their targets and
    weights are equal, else each is its own). At the target, a fit is given up if it is too slow to
    overtake the best of its group.
    """
    starts_RP = np.array(starts_RP, np.float64)
    R, P = starts_RP.shape
    target_RN = np.broadcast_to(np.asarray(target_N, np.float64), (R, np.shape(target_N)[-1]))
    weights_RN = np.broadcast_to(np.asarray(weights_RN, np.float64), target_RN.shape)
    features_NF = np.asarray(features_NF, np.float64)
    free_P = np.ones(P) if free_P is None else np.asarray(free_P, np.float64)
    # fits may join only if they solve one problem: all rows are then bit-identical copies
    joinable = all(np.array_equal(x_RN, x_RN[:1].repeat(R, 0)) for x_RN in (weights_RN, target_RN))
    steps = compiled(predict, linear)
    problem_R = np.arange(R) // (starts_per_problem or (R if joinable else 1))

    def batches(rows_N) -> _Batches:
        x_NF, y_RN, w_RN = _pad(features_NF[rows_N], target_RN[:, rows_N], weights_RN[:, rows_N])
        return _Batches(steps, x_NF, y_RN, w_RN, problem_R, free_P, quantile)

    whole = batches(slice(None))
    early = batches(some) if joinable and len(some := _some(weights_RN[0])) else whole
    params_RP = starts_RP
    stages = _stages(delta, near, P, centre_P)
    for i, stage in enumerate(stages):
        groups, first = _join(params_RP) if joinable else (np.arange(R), np.arange(R))
        solution = (early if i < len(stages) - 2 else whole).solve(params_RP[first], first, stage)
        params_RP = solution.params_RP[groups]
    return Solution(
        params_RP,
        solution.objective_R[groups],
        solution.gradient_R[groups],
        solution.converged_R[groups],
    )


@dataclass(frozen=True)
class _Stage:
    """Newton steps at one Huber threshold."""

    delta: float
    iterations: int
    centre_P: np.ndarray
    pull: float
    is_target: bool


def _stages(delta: float, near: bool, n_params: int, centre_P) -> list[_Stage]:
    """Return the thresholds from the first to the target, with the pull gone at the last."""
    if delta >= WIDEST:
        deltas = np.array([delta])
    else:
        widest = min(10 * delta, WIDEST) if near else WIDEST
        deltas = np.geomspace(widest, delta, 2 if near else STAGES)
    pull = 0.0 if centre_P is None or near else PULL
    centre_P = np.zeros(n_params) if centre_P is None else np.asarray(centre_P, np.float64)
    stages = []
    for value in deltas[:-1]:
        stages.append(_Stage(float(value), EARLY_ITERATIONS, centre_P, pull, False))
        pull = pull * PULL_FADES if pull > LEAST_PULL else 0.0
    return [*stages, _Stage(float(deltas[-1]), ITERATIONS, centre_P, 0.0, True)]


def _some(weights_N) -> np.ndarray:
    """Return `EARLY_ROWS` rows of weight, drawn with a fixed seed; none if there are no more."""
    rows = np.flatnonzero(weights_N)
    if len(rows) <= 2 * EARLY_ROWS:  # or the program would be compiled twice for little
        return rows[:0]
    return np.sort(np.random.default_rng(0).permutation(rows)[:EARLY_ROWS])


def padding(count: int) -> int:
    """Return the number of rows to add, so tables of similar length share a compiled program.

    Lengths go up to the next quarter of a power of two: 16, 20, 24, 28, 32, 40, ... A program per
    length would exhaust the compiler's memory after a few hundred tables.
    """
    quarter = 2 ** max(int(np.ceil(np.log2(max(count, 16)))) - 3, 2)
    return -count % quarter


def _pad(features_NF, target_RN, weights_RN):
    """Append copies of the first row at weight 0."""
    extra = padding(len(features_NF))
    if not extra:
        return features_NF, target_RN, weights_RN
    R = len(target_RN)
    features_NF = np.concatenate([features_NF, np.repeat(features_NF[:1], extra, axis=0)])
    target_RN = np.concatenate([target_RN, np.repeat(target_RN[:, :1], extra, axis=1)], axis=1)
    weights_RN = np.concatenate([weights_RN, np.zeros((R, extra))], axis=1)
    return features_NF, target_RN, weights_RN


def _join(params_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (group of every fit, first fit of every group), by parameters within JOINED."""
    finite = np.isfinite(params_RP).all(axis=1)
    scale = np.maximum(np.abs(params_RP), 1e-3)
    exponent = np.floor(np.log2(np.where(finite[:, None], scale, 1.0)))
    keys = np.round(np.where(finite[:, None], params_RP, 0.0) / (JOINED * 2.0**exponent))
    _, first, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return groups.reshape(-1), first


@dataclass(frozen=True)
class _Batches:
    """Solve the fits of one table in chunks of one shape, a thread per core."""

    steps: Callable[[Shared, Start], End]
    features_NF: np.ndarray
    target_RN: np.ndarray
    weights_RN: np.ndarray
    problem_R: np.ndarray
    free_P: np.ndarray
    quantile: float

    def solve(self, params_RP, rows, stage: _Stage) -> Solution:
        """Fit from `params_RP` `[R, P]` to the targets and weights of the given `rows` `[R]`."""
        import jax

        shared = Shared(
            self.features_NF, stage.delta, self.quantile, self.free_P, stage.centre_P, stage.pull
        )
        count = len(params_RP)
        params = params_RP.copy()
        value = np.full(count, np.inf)
        gradient = np.full(count, np.nan)
        converged = np.zeros(count, bool)
        damping = np.full(count, FIRST_DAMPING)
        active = np.arange(count)
        rounds = -(-stage.iterations // ROUND)
        for i in range(rounds):
            signals.check()
            before = value.copy()
            chunks = [active[i : i + CHUNK] for i in range(0, len(active), CHUNK)]

            def run(chunk) -> End:
                filled = np.resize(chunk, CHUNK)
                start = Start(
                    self.target_RN[rows[filled]],
                    self.weights_RN[rows[filled]],
                    params[filled],
                    damping[filled],
                )
                with jax.enable_x64(True):  # holds for one thread only
                    return End(*(np.asarray(x)[: len(chunk)] for x in self.steps(shared, start)))

            with ThreadPoolExecutor(len(machine.visible_cores())) as pool:
                ends = list(pool.map(run, chunks))
            for chunk, end in zip(chunks, ends, strict=True):
                params[chunk], value[chunk], damping[chunk] = end.params_P, end.value, end.damping
                gradient[chunk], converged[chunk] = end.gradient, end.converged
            if stage.is_target and i:
                gain = FASTER * (rounds - i - 1) * (before - value)
                active = active[value[active] - gain[active] <= self._lowest(value, rows)[active]]
            active = active[~converged[active]]
            if not len(active):
                break
        return Solution(params, value, gradient, converged)

    def _lowest(self, value_R, rows) -> np.ndarray:
        """Return `[R]`, the lowest value of any fit of the same problem."""
        problem = self.problem_R[rows]
        lowest = np.full(problem.max() + 1, np.inf)
        np.minimum.at(lowest, problem, np.where(np.isnan(value_R), np.inf, value_R))
        return lowest[problem]
