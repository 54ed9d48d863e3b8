"""Compute N*, D* and L* in closed form at a cost of k N D (Hoffmann et al. 2022, equation 4).

Kaplan's law has a closed form of the same kind.

Shapes: R laws, P parameters.
"""

from __future__ import annotations

import numpy as np

from scaling.laws.table import CannotFit


def closed_form(form_name: str, natural_RP: np.ndarray, product: float):
    """Return (N*, D*), each `[R]`, of the laws `natural_RP` `[R, P]` at N D = `product`.

    Raises CannotFit if the form has no closed form.
    """
    columns = np.asarray(natural_RP, float).T
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if form_name in ("chinchilla", "chinchilla_tied"):
            a, b, _, alpha, *rest = columns
            beta = rest[0] if rest else alpha
            log_g = (np.log(alpha * a) - np.log(beta * b)) / (alpha + beta)
            log_n = log_g + beta / (alpha + beta) * np.log(product)
        elif form_name == "kaplan":
            n_c, d_c, alpha_n, alpha_d = columns
            ratio = alpha_n / alpha_d
            # minimum of (N_c / N)^r + D_c N / P
            log_n = (np.log(ratio) + ratio * np.log(n_c) + np.log(product) - np.log(d_c)) / (
                1 + ratio
            )
        else:
            raise CannotFit(
                f"{form_name} prescribes no N* and D*; use a law of n_params and tokens"
            )
        return np.exp(log_n), product / np.exp(log_n)


def floor_and_power(form_name: str, natural_RP: np.ndarray, flops_per_n_d: float) -> np.ndarray:
    """Return `[R, 3]` (E, log K, gamma) of the compute-optimal loss L*(C) = E + K C^-gamma.

    Along the optimum both terms of Chinchilla's law fall with the exponent alpha beta / (alpha +
    beta). Those of Kaplan's law fall with alpha_N alpha_D / (alpha_N + alpha_D), without a floor. A
    law of one quantity counts as a law of C. E is in nats per token, C in FLOPs. Raises CannotFit
    for a form without such a law.
    """
    columns = np.asarray(natural_RP, float).T
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if form_name in ("chinchilla", "chinchilla_tied"):
            a, b, floor, alpha, *rest = columns
            beta = rest[0] if rest else alpha
            n_opt, d_opt = closed_form(form_name, natural_RP, 1.0)
            log_k = np.log(a * n_opt**-alpha + b * d_opt**-beta)
            gamma = alpha * beta / (alpha + beta)
        elif form_name == "kaplan":
            n_c, _, alpha_n, alpha_d = columns
            n_opt, _ = closed_form(form_name, natural_RP, 1.0)
            ratio = alpha_n / alpha_d
            log_k = alpha_d * (np.log1p(ratio) + ratio * np.log(n_c / n_opt))
            gamma, floor = alpha_n * alpha_d / (alpha_n + alpha_d), 0 * alpha_n
        elif form_name == "over_training":
            a, b, floor, gamma = columns  # the form counts C as 6 N D
            log_k = np.log(2.0) + (np.log(a) + np.log(b)) / 2 - gamma * np.log(6.0)
        elif form_name in ("power", "power_offset"):
            k, *between, gamma = columns
            floor = between[0] if between else 0 * k
            log_k, flops_per_n_d = np.log(k), 1.0
        else:
            raise CannotFit(
                f"{form_name} has no compute-optimal loss in closed form; use chinchilla, "
                "chinchilla_tied, kaplan, over_training, or power_offset or power of x = flops"
            )
        return np.stack([floor, log_k + gamma * np.log(flops_per_n_d), gamma], axis=1)
