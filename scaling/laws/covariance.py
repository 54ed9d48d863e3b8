"""Standard errors from the curvature at the optimum: a cross-check of the bootstrap that costs nothing."""

from __future__ import annotations

import numpy as np

from scaling.laws.forms.base import Form


def jacobian(form: Form, params_P, logs_NF) -> np.ndarray:
    """`[N, P]` derivatives of the log prediction."""
    import jax

    with jax.enable_x64(True):
        slopes = jax.jacfwd(form.log_predict)(
            np.asarray(params_P, float), np.asarray(logs_NF, float)
        )
        return np.asarray(slopes)


def sandwich(jacobian_NP, residuals_N, weights_N, delta: float) -> np.ndarray:
    """Covariance of an M-estimate, H^-1 (sum psi^2 g g') H^-1 with n / (n - p) (Huber 1967; White 1980).

    H counts rows below the threshold; where hardly any is (L1 in effect), their number is too noisy
    and the density of residuals at zero is estimated from the central half instead.
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


def standard_errors(
    form, params_P, logs_NF, residuals_N, weights_N, delta, free_P
) -> dict[str, float]:
    """Sandwich standard errors of the natural parameters, by the delta method; 0 where held fixed.

    Residuals are those of the log target, also for fits on the linear scale.
    """
    slopes = jacobian(form, params_P, logs_NF)
    if not np.isfinite(slopes).all():
        return dict.fromkeys(form.parameters, float("nan"))
    covariance = np.zeros((len(params_P),) * 2)
    part = sandwich(slopes[:, free_P], residuals_N, weights_N, delta)
    covariance[np.ix_(free_P, free_P)] = part
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
