"""Compile damped Newton steps of one fit, vectorised over many fits in JAX, for `newton`.

Shapes: P parameters, N rows, F inputs. `vmap` adds the axis of fits in front.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

ROUND = 6  # steps of one call, between two checks for convergence
# Added to the diagonal of the curvature, in units of its trace. It keeps the curvature invertible
# if two parameters have one effect. The second number is per unit of damping.
RIDGE, RIDGE_PER_DAMPING = 1e-13, 1e-5
WEIGHT_ABOVE = 1e-6  # weight of the reweighted curvature in that of rows below the threshold
# Lengths of the trial steps: two along the safe direction, two along the quick one.
LENGTHS = (1.0, 3.0, 1.0, 0.3)
CONVERGED = 1e-10  # relative gain of a step below which it counts as 0
CALM_STEPS = 2  # steps without gain after which a fit has converged
DAMPING_FACTOR, LEAST_DAMPING, MOST_DAMPING = 8.0, 1e-13, 1e13
ANY_DESCENT = 1e3  # a refused step above this damping shows that no descent is left


class Shared(NamedTuple):
    """The data and settings shared by all fits of a call."""

    features_NF: Any
    delta: Any  # Huber threshold
    quantile: Any
    free_P: Any  # 1 for parameters to fit, 0 for fixed ones
    centre_P: Any  # a plausible law
    pull: Any  # weight of the pull towards it, per row


class Start(NamedTuple):
    """One fit at the start of a call."""

    target_N: Any
    weights_N: Any
    params_P: Any
    damping: Any


class End(NamedTuple):
    """The same fit after `ROUND` steps."""

    params_P: Any
    value: Any  # the objective
    damping: Any
    gradient: Any  # largest absolute derivative
    converged: Any


class _Slopes(NamedTuple):
    """The objective's first derivatives and their parts."""

    columns_PN: Any  # derivatives of the prediction
    residual_N: Any
    tilted_N: Any  # weights, tilted for the quantile
    gradient_P: Any


class _Carry(NamedTuple):
    """The state of one fit between two steps."""

    params_P: Any
    value: Any
    damping: Any
    calm: Any  # steps without gain in a row


def huber(residual, delta):
    """Return the Huber loss: r^2 / 2 below delta, delta (|r| - delta / 2) above."""
    import jax.numpy as jnp

    size = jnp.abs(residual)
    return jnp.where(size <= delta, 0.5 * residual**2, delta * (size - 0.5 * delta))


def solve_small(matrix, vector):
    """Solve A x = b without pivoting for a small positive definite A, nested lists of scalars.

    It is written by hand so that fits do not depend on the LAPACK build of a machine. Under `vmap`
    each scalar is a vector over the fits. On 2 cores, 256 fits of 64 rows take 21 ms per call this
    way and 18 ms by `jnp.linalg.solve` or Cholesky. A library call would save little and change the
    digits of every law.
    """
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


class _Fit:
    """One fit while it is traced: its objective, slopes and steps."""

    def __init__(self, predict: Callable, linear: bool, shared: Shared, start: Start):
        import jax.numpy as jnp

        self.predict, self.linear = predict, linear
        self.shared, self.start = shared, start
        self.count = start.params_P.shape[0]
        self.observed_N = jnp.exp(start.target_N) if linear else start.target_N
        self.pull_P = shared.pull * jnp.sum(start.weights_N) * shared.free_P

    def predicted(self, params_P):
        """Return `[N]` predictions on the scale of the residuals."""
        import jax.numpy as jnp

        log_N = self.predict(params_P, self.shared.features_NF)
        return jnp.exp(log_N) if self.linear else log_N

    def _tilt(self, residual_N):
        import jax.numpy as jnp

        quantile = self.shared.quantile
        return self.start.weights_N * jnp.where(residual_N > 0, 2 * quantile, 2 * (1 - quantile))

    def _used(self, values_N):
        """Replace the values of rows left out by 0, since they may be NaN."""
        import jax.numpy as jnp

        return jnp.where(self.start.weights_N > 0, values_N, 0.0)

    def objective(self, params_P):
        """Return the weighted sum of losses plus the pull."""
        import jax.numpy as jnp

        residual_N = self._used(self.observed_N - self.predicted(params_P))
        pull = self.pull_P * (params_P - self.shared.centre_P) ** 2 / 2
        return jnp.sum(self._tilt(residual_N) * huber(residual_N, self.shared.delta)) + jnp.sum(
            pull
        )

    def slopes(self, params_P) -> _Slopes:
        """Return the first derivatives at `params_P`."""
        import jax
        import jax.numpy as jnp

        predicted_N, push = jax.linearize(self.predicted, params_P)
        free_P, delta = self.shared.free_P, self.shared.delta
        columns_PN = self._used(jax.vmap(push)(jnp.eye(self.count))) * free_P[:, None]
        residual_N = self._used(self.observed_N - predicted_N)
        tilted_N = self._tilt(residual_N)
        slope_N = tilted_N * jnp.clip(residual_N, -delta, delta)
        pull_P = self.pull_P * (params_P - self.shared.centre_P)
        gradient_P = pull_P - jnp.sum(slope_N * columns_PN, axis=1)
        return _Slopes(columns_PN, residual_N, tilted_N, gradient_P)

    def _direction(self, slopes: _Slopes, curvature_N, damping):
        """Return `[P]`, the damped curvature's inverse times the gradient."""
        import jax.numpy as jnp

        columns_PN = slopes.columns_PN
        h_PP = jnp.sum((curvature_N * columns_PN)[:, None] * columns_PN, axis=-1)
        diagonal_P = jnp.diagonal(h_PP) + self.pull_P
        ridge = (RIDGE + RIDGE_PER_DAMPING * damping) * jnp.sum(diagonal_P)
        diagonal_P = diagonal_P * (1 + damping) + ridge + 1e-300
        # a fixed parameter has no column: keep its equation solvable
        diagonal_P = jnp.where(self.shared.free_P > 0, diagonal_P, 1.0)
        rows = range(self.count)
        h = [[diagonal_P[i] if i == j else h_PP[i, j] for j in rows] for i in rows]
        return jnp.stack(solve_small(h, [slopes.gradient_P[i] for i in rows]))

    def step(self, _, carry: _Carry) -> _Carry:
        """Take the best of four trial steps, or none."""
        import jax
        import jax.numpy as jnp

        params_P, value, damping, calm = carry
        slopes, delta = self.slopes(params_P), self.shared.delta
        size_N = jnp.abs(slopes.residual_N)
        # Reweighting is safe far away but slow for a loss near L1. Newton's own curvature, from
        # residuals below the threshold only, converges in few steps.
        reweighted_N = slopes.tilted_N * jnp.minimum(1.0, delta / jnp.maximum(size_N, 1e-300))
        inside_N = slopes.tilted_N * (size_N <= delta) + WEIGHT_ABOVE * reweighted_N
        safe_P, quick_P = jax.vmap(lambda c_N: self._direction(slopes, c_N, damping))(
            jnp.stack([reweighted_N, inside_N])
        )
        directions = jnp.stack([safe_P, safe_P, quick_P, quick_P])
        trials = params_P - jnp.array(LENGTHS)[:, None] * directions
        values = jax.vmap(self.objective)(trials)
        values = jnp.where(jnp.isfinite(values), values, jnp.inf)
        best = jnp.argmin(values)
        better = values[best] < value
        gain = jnp.where(better, value - values[best], 0.0)
        small = gain <= CONVERGED * jnp.abs(value)
        damping = jnp.where(better, damping / DAMPING_FACTOR, damping * DAMPING_FACTOR)
        damping = jnp.clip(damping, LEAST_DAMPING, MOST_DAMPING)
        # a refused step counts only if the damping is so large that any descent is accepted
        is_calm = small & (better | (damping > ANY_DESCENT))
        return _Carry(
            jnp.where(better, trials[best], params_P),
            jnp.where(better, values[best], value),
            damping,
            jnp.where(is_calm, calm + 1, jnp.where(small, calm, 0)),
        )

    def run(self) -> End:
        """Take `ROUND` steps."""
        import jax
        import jax.numpy as jnp

        first = self.objective(self.start.params_P)
        first = jnp.where(jnp.isfinite(first), first, jnp.inf)
        carry = _Carry(self.start.params_P, first, self.start.damping, 0)
        params_P, value, damping, calm = jax.lax.fori_loop(0, ROUND, self.step, carry)
        gradient_P = self.slopes(params_P).gradient_P
        return End(params_P, value, damping, jnp.abs(gradient_P).max(), calm >= CALM_STEPS)


@functools.lru_cache(maxsize=64)
def compiled(predict: Callable, linear: bool) -> Callable[[Shared, Start], End]:
    """Return the compiled `ROUND` steps of a chunk of fits; `Start` has the axis of fits."""
    import jax

    def one(shared: Shared, start: Start) -> End:
        return _Fit(predict, linear, shared, start).run()

    return jax.jit(jax.vmap(one, in_axes=(None, 0)))
