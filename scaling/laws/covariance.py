"""Compute standard errors from the curvature at the optimum, a cheap check of the bootstrap.

Shapes: N rows, P parameters, F inputs, K points.
"""

from __future__ import annotations

import functools

import numpy as np

from scaling.laws.forms.base import Form
from scaling.laws.newton import padding


@functools.lru_cache(maxsize=64)
def _slopes(log_predict):
    import jax

    return jax.jit(jax.jacfwd(log_predict))


def jacobian(form: Form, params_P, logs_NF) -> np.ndarray:
    """Return `[N, P]` derivatives of the log prediction at log inputs `[N, F]`."""
    import jax

    logs_NF = np.asarray(logs_NF, float)
    padded_NF = np.pad(logs_NF, ((0, padding(len(logs_NF))), (0, 0)), "edge")
    with jax.enable_x64(True):
        slopes = _slopes(form.log_predict)(np.asarray(params_P, float), padded_NF)
        return np.asarray(slopes)[: len(logs_NF)]


def sandwich(jacobian_NP, residuals_N, weights_N, delta: float) -> np.ndarray:
    """Return the `[P, P]` covariance of an M-estimate (Huber 1967; White 1980).

    It is H^-1 (sum psi^2 g g') H^-1 times n / (n - p). H sums over the rows below the threshold. If
    hardly any row is below it (L1 in effect), their number is too noisy, so the central half of the
    residuals estimates their density at zero instead.
    """
    n, p = jacobian_NP.shape
    size = np.abs(residuals_N)
    inside = size <= delta
    if inside.sum() < max(4 * p, n / 4):
        wide = max(float(np.quantile(size, 0.5)), delta)
        curvature = np.where(size <= wide, delta / wide, 0.0)
    else:
        curvature = inside.astype(float)
    psi = np.clip(residuals_N, -delta, delta)
    hessian = (jacobian_NP.T * (weights_N * curvature)) @ jacobian_NP
    meat = (jacobian_NP.T * (weights_N * psi) ** 2) @ jacobian_NP
    inverse = np.linalg.pinv(hessian, rcond=1e-14, hermitian=True)
    return inverse @ meat @ inverse * n / max(n - p, 1)


def unevenness(x_N, residuals_N) -> float:
    """Return the standard deviation of the noise about any smooth curve of x.

    Each row is compared with the straight line between its neighbours (Gasser, Sroka &
    Jennen-Steinmetz 1986), so the smooth error of a wrong law does not count as noise. Between
    neighbours of equal x the line is their mean.
    """
    order = np.argsort(x_N, kind="stable")
    x, r = np.asarray(x_N, float)[order], np.asarray(residuals_N, float)[order]
    if len(r) < 3:
        return float(np.sqrt(np.mean(r**2)))
    gap = x[2:] - x[:-2]
    a = np.where(gap > 0, (x[2:] - x[1:-1]) / np.where(gap > 0, gap, 1.0), 0.5)
    line = a * r[:-2] + (1 - a) * r[2:]
    return float(np.sqrt(np.mean((r[1:-1] - line) ** 2 / (1 + a**2 + (1 - a) ** 2))))


def noise_variance(fit, table, inputs) -> np.ndarray:
    """Return `[K]`, the variance of a law's log predictions at `inputs` from the noise of its rows.

    `inputs` holds one `[K]` array per input. The delta method for weighted least squares gives s^2
    g' (J' W J)^-1 J' W^2 J (J' W J)^-1 g. The noise s is the spread of runs about a law of several
    inputs, and the unevenness of a curve.
    """
    logs_NF = np.log(np.stack([table[name] for name in fit.form.inputs], axis=1))
    slopes_NP = np.nan_to_num(jacobian(fit.form, fit.params_P, logs_NF))
    at_KP = np.nan_to_num(jacobian(fit.form, fit.params_P, np.log(np.stack(inputs, axis=1))))
    one = logs_NF.shape[1] == 1
    noise = unevenness(logs_NF[:, 0], fit.residuals) if one else fit.spread
    weighted_NP = slopes_NP * fit.share_N[:, None]
    hessian = slopes_NP.T @ weighted_NP
    size = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    inverse = np.linalg.pinv(hessian / np.outer(size, size), rcond=1e-10) / np.outer(size, size)
    covariance = inverse @ (weighted_NP.T @ weighted_NP) @ inverse
    return noise**2 * np.einsum("kp,pq,kq->k", at_KP, covariance, at_KP)


def standard_errors(
    form, params_P, logs_NF, residuals_N, weights_N, delta, free_P
) -> dict[str, float]:
    """Return sandwich standard errors of the natural parameters, by the delta method.

    Fixed parameters get 0. Residuals are those of the log target, also for a fit on the linear
    scale.
    """
    slopes = jacobian(form, params_P, logs_NF)
    if not np.isfinite(slopes).all():
        return dict.fromkeys(form.parameters, float("nan"))
    covariance = np.zeros((len(params_P),) * 2)
    free_covariance = sandwich(slopes[:, free_P], residuals_N, weights_N, delta)
    covariance[np.ix_(free_P, free_P)] = free_covariance
    step = 1e-6
    lift = np.stack(
        [
            (form.natural(params_P + step * e) - form.natural(params_P - step * e)) / (2 * step)
            for e in np.eye(len(params_P))
        ],
        axis=1,
    )
    variance = np.einsum("ip,pq,iq->i", lift, covariance, lift)
    return dict(zip(form.parameters, np.sqrt(np.maximum(variance, 0)).tolist(), strict=True))
