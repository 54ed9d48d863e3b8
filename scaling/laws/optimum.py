"""N* and D* in closed form where cost is k N D: Hoffmann et al. 2022, equation 4, and Kaplan's alike."""

from __future__ import annotations

import numpy as np

from scaling.laws.table import CannotFit


def closed_form(form_name: str, natural_RP: np.ndarray, product: float):
    """(N*, D*) of each law where N D = `product`. Raises CannotFit for forms without a closed form."""
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
