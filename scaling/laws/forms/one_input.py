"""Define forms of loss in one quantity x: tokens, size, compute or steps of a learning curve.

Shapes: N rows, R starts. Starts pass through the middle of the table.
"""

from __future__ import annotations

import itertools

import numpy as np

from scaling.laws.forms.base import Form

EXPONENTS = (0.03, 0.1, 0.2, 0.4, 0.8, 1.5)
FLOORS = (1e-3, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99)  # E as a fraction of the lowest loss


def power_log_loss(params_P, logs_N1):
    """Return `[N]` log(k x^-a) from (log k, a)."""
    return params_P[0] - params_P[1] * logs_N1[:, 0]


def power_starts(logs_N1, target_N) -> np.ndarray:
    """Return `[1, 2]`, the least-squares line in logs."""
    x = logs_N1[:, 0]
    slope, offset = np.polyfit(x, target_N, 1)
    return np.array([(offset, -slope)])


POWER = Form(
    name="power",
    equation="L(x) = k x^-a",
    source="Hestness et al. 2017; Kaplan et al. 2020, equation 1.1 (M1 of Alabdulmohsin et al. "
    "2022)",
    domain="far above any floor",
    inputs=("x",),
    parameters=("k", "a"),
    stored_as_logs=("k",),
    log_predict=power_log_loss,
    starts=power_starts,
    distinct=2,
    judged=("a",),
)


def level_log_loss(params_P, logs_N1):
    """Return `[N]` log k from (log k)."""
    return params_P[0] + 0.0 * logs_N1[:, 0]


LEVEL = Form(
    name="level",
    equation="L(x) = k",
    source="the forecast of no change, which any other has to beat (Makridakis et al. 1982)",
    domain="the end of a curve that has stopped falling",
    inputs=("x",),
    parameters=("k",),
    stored_as_logs=("k",),
    log_predict=level_log_loss,
    starts=lambda logs_N1, target_N: np.array([[np.median(target_N)]]),
    distinct=1,
    judged=("k",),
)


def power_offset_log_loss(params_P, logs_N1):
    """Return `[N]` log(E + k x^-a) from (log k, log E, a)."""
    import jax.numpy as jnp

    k, e, a = params_P
    return jnp.logaddexp(e, k - a * logs_N1[:, 0])


def power_offset_starts(logs_N1, target_N) -> np.ndarray:
    """Return `[R, 3]` starts over floors E and exponents a."""
    low, middle = np.exp(target_N.min()), np.exp(np.median(target_N))
    x = np.median(logs_N1[:, 0])
    return np.array(
        [
            (
                np.log(max(middle - floor_ratio * low, 0.01 * middle)) + a * x,
                np.log(floor_ratio * low),
                a,
            )
            for floor_ratio, a in itertools.product(FLOORS, EXPONENTS)
        ]
    )


POWER_OFFSET = Form(
    name="power_offset",
    equation="L(x) = E + k x^-a",
    source="Hestness et al. 2017; Henighan et al. 2020 (M2 of Alabdulmohsin et al. 2022)",
    domain="losses that fall towards a floor E with one exponent",
    inputs=("x",),
    parameters=("k", "E", "a"),
    stored_as_logs=("k", "E"),
    positive=("a",),
    log_predict=power_offset_log_loss,
    starts=power_offset_starts,
    distinct=4,
    judged=("E", "a"),
)


def shifted_power_log_loss(params_P, logs_N1):
    """Return `[N]` log(E + k (x + s)^-a) from (log k, log E, log s, a)."""
    import jax.numpy as jnp

    k, e, s, a = params_P
    return jnp.logaddexp(e, k - a * jnp.logaddexp(logs_N1[:, 0], s))


def shifted_power_starts(logs_N1, target_N) -> np.ndarray:
    """Return `[R, 4]` starts of `power_offset` with shifts s before and inside the range of x."""
    first, middle = logs_N1[:, 0].min(), np.median(logs_N1[:, 0])
    grid = []
    for (k, e, a), offset in itertools.product(
        power_offset_starts(logs_N1, target_N)[::2], (-3.0, 0.0, 0.6)
    ):
        s = first + offset * (middle - first if offset > 0 else 1.0)
        grid.append((k - a * middle + a * np.logaddexp(middle, s), e, s, a))
    return np.array(grid)


SHIFTED_POWER = Form(
    name="shifted_power",
    equation="L(x) = E + k (x + s)^-a",
    source="Rosenfeld et al. 2020; M3 of Alabdulmohsin et al. 2022 is a kin of it",
    domain="learning curves with a slow start",
    inputs=("x",),
    parameters=("k", "E", "s", "a"),
    stored_as_logs=("k", "E", "s"),
    positive=("a",),
    log_predict=shifted_power_log_loss,
    starts=shifted_power_starts,
    distinct=4,
    judged=("E", "a"),
)


def m4_log_loss(params_P, logs_N1):
    """Return `[N]` log L, the solution of (L - E) / (L0 - L)^alpha = k x^-a.

    The parameters are (log k, log E, log(L0 / E - 1), log alpha, a). With W = L0 - E and s the
    logistic function, L - E = W s(u) and L0 - L = W s(-u). This gives log s(u) - alpha log s(-u) =
    r with r = log k - a log x - (1 - alpha) log W. For alpha > 1, -u solves the same equation with
    1 / alpha and -r / alpha. It remains to solve F(v) = v - c log(1 + e^-v) = y for c >= 0.
    """
    import jax
    import jax.numpy as jnp

    k, e, ratio, log_alpha, a = params_P
    log_w = e + ratio
    swap = log_alpha > 0  # not |log alpha|, which has no slope at alpha = 1
    alpha, beta = jnp.exp(log_alpha), jnp.exp(jnp.where(swap, -log_alpha, log_alpha))
    right_N = k - a * logs_N1[:, 0] - (1 - alpha) * log_w
    c, y_N = (1 - beta) / beta, jnp.where(swap, -right_N, right_N / alpha)
    v_N = _solve_m4(*jax.lax.stop_gradient((c, y_N)))
    height_N, slope_N, _ = _m4_slopes(v_N, c)
    v_N = v_N - (height_N - y_N) / slope_N  # carries the gradient of the implicit function
    u_N = jnp.where(swap, -v_N, v_N)
    return jnp.logaddexp(e, log_w + jax.nn.log_sigmoid(u_N))


def _m4_slopes(v, c):
    """Return F(v) = v - c log(1 + e^-v) and its first two derivatives."""
    import jax.numpy as jnp

    z = jnp.exp(-jnp.abs(v))
    large, small = 1 / (1 + z), z / (1 + z)  # s(|v|) and s(-|v|)
    height = v - c * (jnp.log1p(z) - jnp.minimum(v, 0.0))
    return height, 1 + c * jnp.where(v > 0, small, large), -c * large * small


def _solve_m4(c, y):
    """Return v with F(v) = y, to 3e-7 of max(1, |v|) for c from 0 to 1e9, by two Halley steps.

    The start solves F with its limits: (1 + c) v for v << 0, v - c e^-v for v >> 0. In the second,
    w = v - y has w + log w = z, z = log c - y, and w is near z - log z (z > 1) or e^z.
    """
    import jax.numpy as jnp

    z = jnp.log(jnp.maximum(c, 1e-300)) - y
    large = jnp.maximum(z, 1.0)
    w = jnp.where(
        z > 1,
        large - jnp.log(large) * (1 - 1 / large),
        0.8 * jnp.log1p(jnp.exp(jnp.minimum(z, 1.0))),
    )
    v = jnp.where(y > -c * jnp.log(2), y + w, y / (1 + c))
    for _ in range(2):
        height, slope, curvature = _m4_slopes(v, c)
        gap = height - y
        v = v - 2 * gap * slope / (2 * slope**2 - gap * curvature)
    return v


def m4_starts(logs_N1, target_N) -> np.ndarray:
    """Return `[R, 5]` starts over floors E, chance levels L0, alpha and a."""
    x = np.median(logs_N1[:, 0])
    low, high = np.exp(target_N.min()), np.exp(target_N.max())
    middle = np.exp(np.median(target_N))
    grid = []
    for floor_ratio, top_ratio, alpha, a in itertools.product(
        (1e-3, 0.3, 0.7, 0.95), (1.02, 1.3, 3.0), (0.1, 0.5, 1.0, 2.0), (0.1, 0.3, 0.8)
    ):
        floor, top = floor_ratio * low, top_ratio * high
        k = np.log(max(middle - floor, 1e-3 * middle)) - alpha * np.log(top - middle) + a * x
        grid.append((k, np.log(floor), np.log(top / floor - 1), np.log(alpha), a))
    return np.array(grid)


def _m4_natural(params_RP):
    params_RP = np.asarray(params_RP, float)
    k, e, ratio, alpha = np.exp(np.moveaxis(params_RP[..., :4], -1, 0))
    return np.stack([k, e, e * (1 + ratio), alpha, params_RP[..., 4]], axis=-1)


M4 = Form(
    name="m4",
    equation="(L - E) / (L0 - L)^alpha = k x^-a",
    source="Alabdulmohsin et al. 2022, equation 4 (M4)",
    domain="learning curves from chance level L0 down to the floor E",
    inputs=("x",),
    parameters=("k", "E", "L0", "alpha", "a"),
    positive=("a",),
    log_predict=m4_log_loss,
    to_natural=_m4_natural,
    starts=m4_starts,
    distinct=4,
    judged=("E", "a"),
)


def broken_log_loss(params_P, logs_N1):
    """Return `[N]` log(E + k x^-a (1 + (x / d)^(1 / f))^(-c f)).

    The parameters are (log k, log E, log d, log f, a, c).
    """
    import jax.numpy as jnp

    k, e, d, log_f, a, c = params_P
    f = jnp.exp(log_f)
    x = logs_N1[:, 0]
    return jnp.logaddexp(e, k - a * x - c * f * jnp.logaddexp(0.0, (x - d) / f))


def broken_starts(logs_N1, target_N) -> np.ndarray:
    """Return `[R, 6]` starts of `power_offset` with breaks at three points of the range of x."""
    x = logs_N1[:, 0]
    grid = []
    for (k, e, a), position, exponent_ratio in itertools.product(
        power_offset_starts(logs_N1, target_N)[::3], (0.15, 0.5, 0.85), (-0.3, 0.5, 1.0)
    ):
        d = x.min() + position * np.ptp(x)
        c, f = exponent_ratio * a, 0.3
        bend = c * f * np.logaddexp(0.0, (np.median(x) - d) / f)
        grid.append((k + bend, e, d, np.log(f), a, c))
    return np.array(grid)


BROKEN = Form(
    name="broken",
    equation="L(x) = E + k x^-a (1 + (x / d)^(1 / f))^(-c f)",
    source="Caballero et al. 2023, equation 1 with one break (BNSL)",
    domain="curves whose exponent changes once, from a to a + c around x = d",
    inputs=("x",),
    parameters=("k", "E", "d", "f", "a", "c"),
    stored_as_logs=("k", "E", "d", "f"),
    log_predict=broken_log_loss,
    starts=broken_starts,
    distinct=4,
    judged=("E", "a"),
)
