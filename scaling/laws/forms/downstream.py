"""Define the form of downstream error as a function of loss."""

from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.forms.base import Form


def error_log_predict(params_P, logs_NF):
    """Return `[N]` log(eps - k exp(-gamma L)) from (eps, log k, log gamma) and log L `[N, 1]`."""
    import jax.numpy as jnp

    eps, log_k, log_gamma = params_P
    value = eps - jnp.exp(log_k - jnp.exp(log_gamma) * jnp.exp(logs_NF[:, 0]))
    return jnp.log(jnp.where(value > 0, value, jnp.nan))


def error_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[R, 3]` starts with ceilings above the largest error and several rates gamma."""
    loss, error = np.exp(logs_NF[:, 0]), np.exp(target_N)
    spread = max(float(error.max() - error.min()), 1e-6)
    grid = []
    for ceiling_ratio, gamma in itertools.product(
        (1.01, 1.1, 1.5, 3.0), (0.1, 0.3, 1.0, 3.0, 10.0)
    ):
        eps = float(error.max()) + (ceiling_ratio - 1) * spread
        gamma = gamma / max(float(np.ptp(loss)), 1e-6)
        drop = max(eps - float(error.min()), 1e-6)
        grid.append((eps, np.log(drop) + gamma * float(loss.min()), np.log(gamma)))
    return np.array(grid)


LOSS_TO_ERROR = Form(
    name="loss_to_error",
    equation="err(L) = eps - k exp(-gamma L)",
    source="Gadre et al. 2024, equation 5",
    domain="average top-1 error over many tasks, below its ceiling eps",
    inputs=("loss",),
    parameters=("eps", "k", "gamma"),
    stored_as_logs=("k", "gamma"),
    log_predict=error_log_predict,
    starts=error_starts,
    target="error",
    distinct=4,
    judged=("eps", "gamma"),
)
