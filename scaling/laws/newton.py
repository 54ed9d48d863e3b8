"""Many small non-linear fits at once: damped Newton on Huber losses, vectorised in JAX, in float64.

Shapes: R fits (starts or resamples), P parameters, N rows, F inputs.

The Huber threshold is lowered step by step to its target: a wide threshold is nearly least squares
and forgives a bad start; the target is often nearly L1, on which descent from far away stops early.
Fits that have met between two thresholds go on as one, and those that have converged leave the
batch, so a grid of thousands of starts costs little more than the distinct paths in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

STAGES = 6  # thresholds from the first to the target
WIDEST = 1.0  # first threshold, in units of the residual
EARLY_ITERATIONS = 12  # damped Newton steps at each threshold before the target
ITERATIONS = 96  # at most, at the target
ROUND = 6  # steps between two looks at who has converged
CHUNK_CELLS = 65_536  # rows times fits that one call works on; small enough for the caches
CHUNKS = (32, 256)  # fits of one call: each number is a program to compile
PULL = 1e-2  # weight of the pull at the first threshold, per row
MET = 1e-7  # relative distance below which two fits of the same weights are one


@dataclass(frozen=True)
class Solution:
    """Result of `minimise`, one row per fit."""

    params_RP: np.ndarray
    objective_R: np.ndarray  # sum of weighted losses
    gradient_R: np.ndarray  # largest absolute derivative at the end
    converged_R: np.ndarray  # no step lowers the objective further

    @property
    def value_R(self) -> np.ndarray:
        """The objective, infinite where a fit ended nowhere."""
        return np.where(np.isfinite(self.objective_R), self.objective_R, np.inf)

    @property
    def best_P(self) -> np.ndarray:
        """Parameters of the lowest objective."""
        return self.params_RP[self.value_R.argmin()]


def huber(residual, delta):
    """Huber loss: r^2 / 2 below delta, delta (|r| - delta / 2) above."""
    import jax.numpy as jnp

    size = jnp.abs(residual)
    return jnp.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


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
) -> Solution:
    """Minimise sum_n weight_n rho(target_n - predict(params, features)_n) for every row of starts.

    rho is the Huber loss, times 2 q above the curve and 2 (1 - q) below it for quantile q.
    `predict(params_P, features_NF)` returns `[N]` and must be a module-level function, since the
    compiled solver is kept by it. `target_N` may be `[R, N]`, one target per fit. Weights are 0 for
    rows left out and counts for bootstrap resamples. `near` says that the starts are close to the
    answer: the threshold then starts close to its target. `linear` compares exponentials of target
    and prediction. `free_P` marks the parameters to fit; the others stay as in the starts.
    `centre_P` is a plausible law: a pull towards it, strong at the first threshold and gone well
    before the target, brings back terms that a start had made too small to have a slope.
    """
    starts_RP = np.array(starts_RP, np.float64)
    R, P = starts_RP.shape
    target_RN = np.broadcast_to(np.asarray(target_N, np.float64), (R, np.shape(target_N)[-1]))
    weights_RN = np.broadcast_to(np.asarray(weights_RN, np.float64), target_RN.shape)
    features_NF = np.asarray(features_NF, np.float64)
    free_P = np.ones(P) if free_P is None else np.asarray(free_P, np.float64)
    widest = min(10 * delta, WIDEST) if near else max(WIDEST, delta)
    if delta >= WIDEST:
        deltas = np.array([delta])
    else:
        deltas = np.geomspace(max(widest, delta), delta, 2 if near else STAGES)
    shared = np.ptp(weights_RN, axis=0).max() == 0 and np.ptp(target_RN, axis=0).max() == 0
    features_NF, target_RN, weights_RN = _padded(features_NF, target_RN, weights_RN)
    solve = _Batches(_solver(predict, linear), features_NF, target_RN, weights_RN, free_P, quantile)
    params_RP = starts_RP
    pull = 0.0 if centre_P is None or near else PULL
    centre_P = np.zeros(P) if centre_P is None else np.asarray(centre_P, np.float64)
    for stage in deltas[:-1]:
        groups, first = _met(params_RP) if shared else (np.arange(R), np.arange(R))
        moved = solve(params_RP[first], first, float(stage), EARLY_ITERATIONS, centre_P, pull)
        params_RP = moved.params_RP[groups]
        pull = pull * 0.03 if pull > 1e-8 else 0.0
    groups, first = _met(params_RP) if shared else (np.arange(R), np.arange(R))
    found = solve(params_RP[first], first, float(deltas[-1]), ITERATIONS, centre_P, 0.0)
    return Solution(
        found.params_RP[groups],
        found.objective_R[groups],
        found.gradient_R[groups],
        found.converged_R[groups],
    )


def padding(count: int) -> int:
    """How many rows to add so that tables of similar length share a compiled program.

    Lengths go up to the next quarter of a power of two: 16, 20, 24, 28, 32, 40, ... A program per length
    would exhaust the compiler's memory after a few hundred tables.
    """
    quarter = 2 ** max(int(np.ceil(np.log2(max(count, 16)))) - 3, 2)
    return -count % quarter


def _padded(features_NF, target_RN, weights_RN):
    """The table with copies of its first row at weight 0."""
    more = padding(len(features_NF))
    if not more:
        return features_NF, target_RN, weights_RN
    R = len(target_RN)
    features_NF = np.concatenate([features_NF, np.repeat(features_NF[:1], more, axis=0)])
    target_RN = np.concatenate([target_RN, np.repeat(target_RN[:, :1], more, axis=1)], axis=1)
    weights_RN = np.concatenate([weights_RN, np.zeros((R, more))], axis=1)
    return features_NF, target_RN, weights_RN


def _met(params_RP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(group of every fit, first member of every group), by parameters equal to within MET."""
    finite = np.isfinite(params_RP).all(axis=1)
    scale = np.maximum(np.abs(params_RP), 1e-3)
    exponent = np.floor(np.log2(np.where(finite[:, None], scale, 1.0)))
    keys = np.round(np.where(finite[:, None], params_RP, 0.0) / (MET * 2.0**exponent))
    _, first, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return groups.reshape(-1), first


class _Batches:
    """Runs the compiled solver over fits in chunks of one shape, on both cores."""

    def __init__(self, step, features_NF, target_RN, weights_RN, free_P, quantile):
        self.step, self.features_NF, self.free_P = step, features_NF, free_P
        self.target_RN, self.weights_RN, self.quantile = target_RN, weights_RN, quantile

    def __call__(self, params_RP, rows, delta, iterations, centre_P, pull) -> Solution:
        """Fits `params_RP`, whose weights and targets are the given rows."""
        import jax

        count = len(params_RP)
        n = len(self.features_NF)
        few, many = (max(8, min(size, CHUNK_CELLS // max(n, 1))) for size in CHUNKS)
        params = params_RP.copy()
        value = np.full(count, np.inf)
        gradient = np.full(count, np.nan)
        done = np.zeros(count, bool)
        damping = np.full(count, 1e-3)
        active = np.arange(count)
        for _ in range(-(-iterations // ROUND)):
            size = few if len(active) <= few else many
            chunks = [active[i : i + size] for i in range(0, len(active), size)]

            def run(chunk, size=size):
                padded = np.resize(chunk, size)
                with jax.enable_x64(True):  # holds for one thread only
                    out = self.step(
                        self.features_NF,
                        self.target_RN[rows[padded]],
                        self.weights_RN[rows[padded]],
                        params[padded],
                        damping[padded],
                        delta,
                        self.quantile,
                        self.free_P,
                        centre_P,
                        pull,
                    )
                    return [np.asarray(o)[: len(chunk)] for o in out]

            with ThreadPoolExecutor(2) as pool:
                results = list(pool.map(run, chunks))
            for chunk, (p, v, d, g, c) in zip(chunks, results, strict=True):
                params[chunk], value[chunk], damping[chunk] = p, v, d
                gradient[chunk], done[chunk] = g, c
            active = active[~done[active]]
            if not len(active):
                break
        return Solution(params, value, gradient, done)


def solve_small(matrix, vector):
    """x of A x = b for a small positive definite A given as nested lists of scalars; no pivoting."""
    n = len(vector)
    a = [list(row) for row in matrix]
    b = list(vector)
    for i in range(n):
        for j in range(i + 1, n):
            factor = a[j][i] / a[i][i]
            for k in range(i + 1, n):
                a[j][k] = a[j][k] - factor * a[i][k]
            b[j] = b[j] - factor * b[i]
    x = [0.0] * n
    for i in reversed(range(n)):
        total = b[i]
        for k in range(i + 1, n):
            total = total - a[i][k] * x[k]
        x[i] = total / a[i][i]
    return x


@functools.lru_cache(maxsize=64)
def _solver(predict: Callable, linear: bool):
    """Compiled: `ROUND` damped Newton steps for a chunk of fits."""
    import jax
    import jax.numpy as jnp

    def one(
        features_NF, target_N, weights_N, params_P, damping, delta, quantile, free_P, centre_P, pull
    ):
        count = params_P.shape[0]
        observed_N = jnp.exp(target_N) if linear else target_N

        pull_P = pull * jnp.sum(weights_N) * free_P

        def predicted(params_P):
            log_N = predict(params_P, features_NF)
            return jnp.exp(log_N) if linear else log_N

        def tilt(residual_N):
            return weights_N * jnp.where(residual_N > 0, 2 * quantile, 2 * (1 - quantile))

        def used(values_N):  # rows left out may hold anything, NaN included
            return jnp.where(weights_N > 0, values_N, 0.0)

        def objective(params_P):
            residual_N = used(observed_N - predicted(params_P))
            away = pull_P * (params_P - centre_P) ** 2 / 2
            return jnp.sum(tilt(residual_N) * huber(residual_N, delta)) + jnp.sum(away)

        def slopes(params_P):
            predicted_N, push = jax.linearize(predicted, params_P)
            columns = [used(push(jnp.eye(count)[p])) * free_P[p] for p in range(count)]
            residual_N = used(observed_N - predicted_N)
            tilted_N = tilt(residual_N)
            slope_N = tilted_N * jnp.clip(residual_N, -delta, delta)
            away_P = pull_P * (params_P - centre_P)
            gradient = [away_P[p] - jnp.sum(slope_N * columns[p]) for p in range(count)]
            return columns, residual_N, tilted_N, gradient

        def direction(columns, curvature_N, gradient, damping):
            scaled = [curvature_N * c for c in columns]
            h: list[list[Any]] = [[None] * count for _ in range(count)]
            for i in range(count):
                for j in range(i, count):
                    h[i][j] = h[j][i] = jnp.sum(scaled[i] * columns[j]) + (i == j) * pull_P[i]
            trace = sum(h[i][i] for i in range(count))
            for i in range(count):
                h[i][i] = h[i][i] * (1 + damping) + (1e-13 + 1e-5 * damping) * trace + 1e-300
                # a fixed parameter has no column: keep its equation solvable
                h[i][i] = jnp.where(free_P[i] > 0, h[i][i], 1.0)
            return jnp.stack(solve_small(h, gradient))

        def step(_, carry):
            params_P, value, damping, calm = carry
            columns, residual_N, tilted_N, gradient = slopes(params_P)
            size_N = jnp.abs(residual_N)
            # Reweighting is safe far away but slow where the loss is nearly L1; Newton's own
            # curvature, which only residuals below the threshold have, ends in few steps.
            reweighted_N = tilted_N * jnp.minimum(1.0, delta / jnp.maximum(size_N, 1e-300))
            inside_N = tilted_N * (size_N <= delta) + 1e-6 * reweighted_N
            safe_P = direction(columns, reweighted_N, gradient, damping)
            quick_P = direction(columns, inside_N, gradient, damping)
            trials = jnp.stack(
                [
                    params_P - safe_P,
                    params_P - 3 * safe_P,
                    params_P - quick_P,
                    params_P - 0.3 * quick_P,
                ]
            )
            values = jax.vmap(objective)(trials)
            values = jnp.where(jnp.isfinite(values), values, jnp.inf)
            best = jnp.argmin(values)
            better = values[best] < value
            gain = jnp.where(better, value - values[best], 0.0)
            params_P = jnp.where(better, trials[best], params_P)
            small = gain <= 1e-10 * jnp.abs(value)
            value = jnp.where(better, values[best], value)
            damping = jnp.clip(jnp.where(better, damping / 8.0, damping * 8.0), 1e-13, 1e13)
            # a refused step says nothing until the damping is so large that any descent would do
            calm = jnp.where(
                small & (better | (damping > 1e3)), calm + 1, jnp.where(small, calm, 0)
            )
            return params_P, value, damping, calm

        first = objective(params_P)
        first = jnp.where(jnp.isfinite(first), first, jnp.inf)
        carry = (params_P, first, damping, 0)
        params_P, value, damping, calm = jax.lax.fori_loop(0, ROUND, step, carry)
        gradient = jnp.stack(slopes(params_P)[3])
        return params_P, value, damping, jnp.abs(gradient).max(), calm >= 2

    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0, 0) + (None,) * 5))
