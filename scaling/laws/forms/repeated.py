"""Loss where data are repeated: Muennighoff et al. 2023."""

from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.forms.base import Form, stored_as_logs
from scaling.laws.forms.size_and_data import chinchilla_log_loss, chinchilla_starts, positive_from


def data_constrained_log_loss(params_P, logs_NF):
    """Chinchilla's law at the effective N' and D' of (log A, log B, log E, log R_D, log R_N, alpha, beta).

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

    def effective(log_unique, log_total, log_decay):
        repeats = jnp.expm1(log_total - log_unique)
        decay = jnp.exp(log_decay)
        return log_unique + jnp.log1p(-decay * jnp.expm1(-repeats / decay))

    logs = jnp.stack([effective(log_un, log_n, log_rn), effective(log_ud, log_d, log_rd)], axis=1)
    return chinchilla_log_loss(jnp.stack([a, b, e, alpha, beta]), logs)


def data_constrained_starts(logs_NF, target_N) -> np.ndarray:
    once = chinchilla_starts(logs_NF[:, :2], target_N, floors=(0.3, 0.8))[::6]
    decays = np.log(np.geomspace(0.5, 500.0, 8))
    return np.array(
        [
            (*row[:3], log_rd, log_rn, *row[3:])
            for row, log_rd, log_rn in itertools.product(once, decays, decays)
        ]
    )


_natural, _internal = stored_as_logs(0, 5)
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
    log_predict=data_constrained_log_loss,
    natural=_natural,
    internal=_internal,
    starts=data_constrained_starts,
    legal=positive_from(5),
    judged=("E", "R_D", "R_N", "alpha", "beta"),
)
