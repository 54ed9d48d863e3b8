"""Define forms of the loss with repeated data (Muennighoff et al. 2023).

Shapes: N rows, F inputs, R starts.
"""

from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.forms.base import Form
from scaling.laws.forms.one_input import power_offset_starts
from scaling.laws.forms.size_and_data import chinchilla_log_loss, chinchilla_starts


def effective(log_unique, log_total, log_decay):
    """Return the log of the effective amount U + U R* (1 - exp(-R / R*)) of repeated data.

    `log_unique` is log U, and `log_total` gives the repeats R = total / U - 1. `log_decay` is log
    R*, the number of repeats over which their value decays.
    """
    import jax.numpy as jnp

    repeats = jnp.expm1(log_total - log_unique)
    decay = jnp.exp(log_decay)
    return log_unique + jnp.log1p(-decay * jnp.expm1(-repeats / decay))


def data_constrained_log_loss(params_P, logs_NF):
    """Return `[N]` logs of Chinchilla's law at the effective N' and D'.

    The parameters are (log A, log B, log E, log R_D, log R_N, alpha, beta).

    D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)),  U_D = min(U, D),  R_D = D / U_D - 1
    N' = U_N + U_N R_N* (1 - exp(-R_N / R_N*)),  U_N = min(N, N_opt(U_D)),  R_N = N / U_N - 1
    N_opt(D) = G (G D)^(beta / alpha),  G = (alpha A / (beta B))^(1 / (alpha + beta))
    """
    import jax.numpy as jnp

    a, b, e, log_rd, log_rn, alpha, beta = params_P
    log_n, log_d, log_u = logs_NF[:, 0], logs_NF[:, 1], logs_NF[:, 2]
    log_ud = jnp.minimum(log_u, log_d)
    log_g = (jnp.log(alpha) + a - jnp.log(beta) - b) / (alpha + beta)
    log_un = jnp.minimum(log_n, log_g + (log_ud + log_g) * beta / alpha)
    logs = jnp.stack([effective(log_un, log_n, log_rn), effective(log_ud, log_d, log_rd)], axis=1)
    return chinchilla_log_loss(jnp.stack([a, b, e, alpha, beta]), logs)


def data_constrained_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[R, 7]` starts of `chinchilla` with decays R_D and R_N of .5 to 500 repeats."""
    grid = chinchilla_starts(logs_NF[:, :2], target_N, floors=(0.3, 0.8))[::6]
    decays = np.log(np.geomspace(0.5, 500.0, 8))
    return np.array(
        [
            (*row[:3], log_rd, log_rn, *row[3:])
            for row, log_rd, log_rn in itertools.product(grid, decays, decays)
        ]
    )


DATA_CONSTRAINED = Form(
    name="data_constrained",
    equation=(
        "L(N, D, U) = E + A / N'^alpha + B / D'^beta, X' = U_X + U_X R_X* (1 - exp(-R_X / R_X*)), "
        "U_D = min(U, D), U_N = min(N, N_opt(U_D)), R_X = X / U_X - 1"
    ),
    source="Muennighoff et al. 2023, equations 5 and 6",
    domain="up to tens of epochs; N_opt(U_D) is the size that the law without repeats prescribes",
    inputs=("n_params", "tokens", "unique_tokens"),
    parameters=("A", "B", "E", "R_D", "R_N", "alpha", "beta"),
    stored_as_logs=("A", "B", "E", "R_D", "R_N"),
    positive=("alpha", "beta"),
    log_predict=data_constrained_log_loss,
    starts=data_constrained_starts,
    judged=("E", "R_D", "R_N", "alpha", "beta"),
)


def one_size_log_loss(params_P, logs_NF):
    """Return `[N]` log(E + B / D'^beta) from (log B, log E, log R_D, beta), with D' as above."""
    import jax.numpy as jnp

    b, e, log_rd, beta = params_P
    log_d, log_u = logs_NF[:, 0], logs_NF[:, 1]
    return jnp.logaddexp(e, b - beta * effective(jnp.minimum(log_u, log_d), log_d, log_rd))


def one_size_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[R, 4]` starts of `power_offset` on at most four epochs, with several decays R_D."""
    grid = power_offset_starts(np.minimum(logs_NF[:, :1], logs_NF[:, 1:2] + np.log(4.0)), target_N)
    return np.array(
        [
            (k, e, log_rd, a)
            for (k, e, a), log_rd in itertools.product(grid, np.log(np.geomspace(0.5, 500.0, 8)))
        ]
    )


DATA_CONSTRAINED_ONE_SIZE = Form(
    name="data_constrained_one_size",
    equation=(
        "L(D, U) = E + B / D'^beta, D' = U_D + U_D R_D* (1 - exp(-R_D / R_D*)), U_D = min(U, D), "
        "R_D = D / U_D - 1"
    ),
    source="Muennighoff et al. 2023, equation 5, at one size, whose term in N is part of E",
    domain="up to tens of epochs of one size; E holds the loss that a larger model would not have",
    inputs=("tokens", "unique_tokens"),
    parameters=("B", "E", "R_D", "beta"),
    stored_as_logs=("B", "E", "R_D"),
    positive=("beta",),
    log_predict=one_size_log_loss,
    starts=one_size_starts,
    distinct=2,
    judged=("E", "R_D", "beta"),
)
