"""Define forms of loss in size and data: Kaplan's, Chinchilla's free and tied, over-training.

All starts pass through the middle of the table, so one grid suits any units.

Shapes: N rows, F inputs, R starts.
"""

from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.forms.base import Form


def chinchilla_log_loss(params_P, logs_NF):
    """Return `[N]` log(E + A / N^alpha + B / D^beta) from (log A, log B, log E, alpha, beta)."""
    import jax.numpy as jnp

    a, b, e, alpha, beta = params_P
    terms = jnp.logaddexp(a - alpha * logs_NF[:, 0], b - beta * logs_NF[:, 1])
    return jnp.logaddexp(terms, e)


def chinchilla_starts(logs_NF, target_N, floors=(0.2, 0.5, 0.8, 0.95)) -> np.ndarray:
    """Return `[R, 5]` starts: E is a fraction of the lowest loss, A and B share the rest."""
    low, middle = np.exp(target_N.min()), np.exp(np.median(target_N))
    log_n, log_d = np.median(logs_NF, axis=0)
    grid = []
    exponents = (0.1, 0.3, 0.6, 1.0)
    for e_part, share, alpha, beta in itertools.product(
        floors, (0.2, 0.5, 0.8), exponents, exponents
    ):
        rest = max(middle - e_part * low, 0.05 * middle)
        a = np.log(share * rest) + alpha * log_n
        b = np.log((1 - share) * rest) + beta * log_d
        grid.append((a, b, np.log(e_part * low), alpha, beta))
    return np.array(grid)


CHINCHILLA = Form(
    name="chinchilla",
    equation="L(N, D) = E + A / N^alpha + B / D^beta",
    source="Hoffmann et al. 2022, equation 2 (approach 3)",
    domain="compute of one pass over fresh data; loss well above and below the floor E",
    inputs=("n_params", "tokens"),
    parameters=("A", "B", "E", "alpha", "beta"),
    stored_as_logs=("A", "B", "E"),
    positive=("alpha", "beta"),
    log_predict=chinchilla_log_loss,
    starts=chinchilla_starts,
    judged=("E", "alpha", "beta"),
)


def tied_log_loss(params_P, logs_NF):
    """Return `[N]` logs of Chinchilla's law with one exponent: (log A, log B, log E, alpha)."""
    import jax.numpy as jnp

    a, b, e, alpha = params_P
    terms = jnp.logaddexp(a - alpha * logs_NF[:, 0], b - alpha * logs_NF[:, 1])
    return jnp.logaddexp(terms, e)


def tied_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[R, 4]`, the starts of `chinchilla` with equal exponents."""
    grid = chinchilla_starts(logs_NF, target_N)
    return grid[np.isclose(grid[:, 3], grid[:, 4])][:, :4]


CHINCHILLA_TIED = Form(
    name="chinchilla_tied",
    equation="L(N, D) = E + A / N^alpha + B / D^alpha",
    source="Gadre et al. 2024, section 3 (N* and D* then grow alike, with the root of C)",
    domain="as chinchilla, where too few rows tell the two exponents apart",
    inputs=("n_params", "tokens"),
    parameters=("A", "B", "E", "alpha"),
    stored_as_logs=("A", "B", "E"),
    positive=("alpha",),
    log_predict=tied_log_loss,
    starts=tied_starts,
    distinct=2,
    judged=("E", "alpha"),
)


def over_training_log_loss(params_P, logs_NF):
    """Return `[N]` log(E + (a M^eta + b M^-eta) C^-eta), C = 6 N^2 M.

    The parameters are (log a, log b, log E, eta).
    """
    import jax.numpy as jnp

    a, b, e, eta = params_P
    log_n, log_m = logs_NF[:, 0], logs_NF[:, 1]
    log_c = jnp.log(6.0) + 2 * log_n + log_m
    terms = jnp.logaddexp(a + eta * log_m, b - eta * log_m) - eta * log_c
    return jnp.logaddexp(terms, e)


def over_training_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[R, 4]`, the starts of `chinchilla_tied` in the terms of this law."""
    logs_ND = np.stack([logs_NF[:, 0], logs_NF[:, 0] + logs_NF[:, 1]], axis=1)
    tied_grid = tied_starts(logs_ND, target_N)
    eta = tied_grid[:, 3] / 2
    # C = 6 N^2 M, so A N^-2 eta = (a 6^-eta) N^-2 eta and b likewise
    shift = eta * np.log(6.0)
    return np.stack(
        [tied_grid[:, 0] + shift, tied_grid[:, 1] + shift, tied_grid[:, 2], eta], axis=1
    )


OVER_TRAINING = Form(
    name="over_training",
    equation="L(C, M) = E + (a M^eta + b M^-eta) C^-eta, M = tokens per parameter, C = 6 N^2 M",
    source="Gadre et al. 2024, equation 4",
    domain="models trained at 5 to 640 tokens per parameter",
    inputs=("n_params", "tokens_per_param"),
    parameters=("a", "b", "E", "eta"),
    stored_as_logs=("a", "b", "E"),
    positive=("eta",),
    log_predict=over_training_log_loss,
    starts=over_training_starts,
    distinct=2,
    judged=("E", "eta"),
)


def kaplan_log_loss(params_P, logs_NF):
    """Return `[N]` a_D log((N_c / N)^(a_N / a_D) + D_c / D), a = alpha.

    The parameters are (log N_c, log D_c, a_N, a_D).
    """
    import jax.numpy as jnp

    n_c, d_c, alpha_n, alpha_d = params_P
    size = (alpha_n / alpha_d) * (n_c - logs_NF[:, 0])
    return alpha_d * jnp.logaddexp(size, d_c - logs_NF[:, 1])


def kaplan_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[R, 4]` starts over exponents and shares of the size term at the middle row."""
    log_n, log_d = np.median(logs_NF, axis=0)
    middle = np.median(target_N)
    grid = []
    for share, alpha_n, alpha_d in itertools.product(
        (0.2, 0.5, 0.8), (0.03, 0.07, 0.15, 0.3), (0.03, 0.07, 0.15, 0.3)
    ):
        # `share` is that of the size term in the sum at the middle row
        n_c = log_n + alpha_d / alpha_n * (np.log(share) + middle / alpha_d)
        d_c = log_d + np.log(1 - share) + middle / alpha_d
        grid.append((n_c, d_c, alpha_n, alpha_d))
    return np.array(grid)


KAPLAN = Form(
    name="kaplan",
    equation="L(N, D) = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    source="Kaplan et al. 2020, equation 1.5 (N without embeddings)",
    domain="losses far above their floor, since it has none",
    inputs=("n_params", "tokens"),
    parameters=("N_c", "D_c", "alpha_N", "alpha_D"),
    stored_as_logs=("N_c", "D_c"),
    positive=("alpha_N", "alpha_D"),
    log_predict=kaplan_log_loss,
    starts=kaplan_starts,
    judged=("alpha_N", "alpha_D"),
)
