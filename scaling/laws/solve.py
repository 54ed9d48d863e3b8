"""Many small non-linear fits at once: damped Newton on Huber losses, vectorised in JAX, in float64.

Shapes: R fits (starts or resamples), P parameters, N rows.

The Huber threshold is lowered step by step to its target: a wide threshold is nearly least squares
and forgives a bad start; the target is nearly L1, on which descent from far away stops early.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

STAGES = 6  # thresholds from the first to the target
EARLY_ITERATIONS = 10  # damped Newton steps at each threshold before the target
ITERATIONS = 60  # damped Newton steps at the target
WIDEST = 1.0  # first threshold, in nats of log loss


@dataclass(frozen=True)
class Solution:
    """Result of `minimise`, one row per fit."""

    params_RP: np.ndarray
    objective_R: np.ndarray  # sum of weighted Huber losses
    gradient_R: np.ndarray  # largest absolute derivative at the end
    converged_R: np.ndarray  # no step lowers the objective further


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
) -> Solution:
    """Minimise sum_n weight_n Huber(target_n - predict(params, features)_n) for every row of starts.

    `predict(params_P, features_NF)` returns `[N]` and must be a module-level function, since the
    compiled solver is kept by it. Weights are 0 for rows left out and counts for bootstrap resamples.
    `near` says that the starts are close to the answer: the threshold then starts close to its target.
    """
    import jax

    with jax.enable_x64(True):
        args = (features_NF, target_N, weights_RN, starts_RP)
        arrays = [np.asarray(a, np.float64) for a in args]
        widest = 10 * delta if near else max(WIDEST, 10 * delta)
        deltas = np.geomspace(widest, delta, 2 if near else STAGES)
        params, value, gradient, converged = _solver(predict)(*arrays, deltas)
        return Solution(*(np.asarray(a) for a in (params, value, gradient, converged)))


@functools.lru_cache(maxsize=32)
def _solver(predict: Callable):
    import jax
    import jax.numpy as jnp

    def one(features_NF, target_N, weights_N, start_P, deltas):
        def objective(params_P, delta):
            residual_N = target_N - predict(params_P, features_NF)
            return jnp.sum(weights_N * huber(residual_N, delta))

        def curvature(params_P, delta):
            """Gradient, and a positive semi-definite stand-in for the Hessian (iterative reweighting)."""
            jacobian_NP = jax.jacfwd(lambda p: predict(p, features_NF))(params_P)
            residual_N = target_N - predict(params_P, features_NF)
            slope_N = jnp.clip(residual_N, -delta, delta)
            scale_N = jnp.minimum(1.0, delta / jnp.maximum(jnp.abs(residual_N), 1e-300))
            gradient_P = -jacobian_NP.T @ (weights_N * slope_N)
            hessian_PP = (jacobian_NP.T * (weights_N * scale_N)) @ jacobian_NP
            return gradient_P, hessian_PP

        def newton(params_P, delta, iterations):
            def step(_, carry):
                params_P, value, damping, stuck = carry
                gradient_P, hessian_PP = curvature(params_P, delta)
                diagonal_P = jnp.diag(hessian_PP) + 1e-12 * jnp.trace(hessian_PP) + 1e-300
                move_P = jnp.linalg.solve(hessian_PP + damping * jnp.diag(diagonal_P), gradient_P)
                # Reweighted steps are short where the loss is nearly L1: try longer ones as well.
                reach = jnp.array([1.0, 2.0, 4.0])
                trials = params_P[None, :] - reach[:, None] * move_P[None, :]
                values = jax.vmap(lambda p: objective(p, delta))(trials)
                values = jnp.where(jnp.isfinite(values), values, jnp.inf)
                best = jnp.argmin(values)
                better = values[best] < value
                params_P = jnp.where(better, trials[best], params_P)
                gain = jnp.where(better, value - values[best], 0.0)
                value = jnp.where(better, values[best], value)
                damping = jnp.clip(jnp.where(better, damping / 5.0, damping * 4.0), 1e-12, 1e12)
                stuck = jnp.where(gain <= 1e-12 * jnp.abs(value), stuck + 1, 0)
                return params_P, value, damping, stuck

            start = (params_P, objective(params_P, delta), 1e-3, 0)
            params_P, value, _, stuck = jax.lax.fori_loop(0, iterations, step, start)
            return params_P, value, stuck

        def early(params_P, delta):
            return newton(params_P, delta, EARLY_ITERATIONS)[0], None

        params_P, _ = jax.lax.scan(early, start_P, deltas[:-1])
        params_P, value, stuck = newton(params_P, deltas[-1], ITERATIONS)
        gradient_P, _ = curvature(params_P, deltas[-1])
        return params_P, value, jnp.abs(gradient_P).max(), stuck > 0

    return jax.jit(jax.vmap(one, in_axes=(None, None, 0, 0, None)))
