"""Compute-optimal frontier of a law of size and data.

`closed_optimum` uses the closed form of Hoffmann et al. 2022, equation 4, where cost is k N D. With exact
FLOPs (heads, attention) there is none, and `frontier` minimises L(N, C / c(N)) over N on a fine grid, c(N)
being the training FLOPs per token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.fit import Fit, log_prediction
from scaling.laws.table import CannotFit, Table

GRID_PER_DECADE = 200


@dataclass(frozen=True)
class Optimum:
    """What the law prescribes and expects at one compute."""

    flops: float
    n_params: Interval
    tokens: Interval
    loss: Interval


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


def closed_optimum(fit: Fit, product: float) -> tuple[Interval, Interval]:
    """N* and D* where N D = `product`, with the intervals of the bootstrap's refits."""
    value = closed_form(fit.form.name, fit.form.natural(fit.params_P[None]), product)
    drawn = closed_form(fit.form.name, fit.draws, product)
    n, d = (interval(float(v[0]), x, fit.confidence) for v, x in zip(value, drawn, strict=True))
    return n, d


def cost_per_token(table: Table) -> Callable[[np.ndarray], np.ndarray]:
    """FLOPs per token as a smooth function of size, a parabola in logs through the table's rows."""
    x, y = np.log(table.n_params), np.log(table.flops / table.tokens)
    degree = min(2, len(np.unique(x)) - 1)
    coefficients = np.polyfit(x, y, degree)
    low, high = x.min(), x.max()
    slopes = np.polyder(coefficients)

    def cost(n_params: np.ndarray) -> np.ndarray:
        log_n = np.log(n_params)
        inside = np.clip(log_n, low, high)
        # outside the measured sizes the slope at the end goes on
        straight = np.polyval(slopes, inside) * (log_n - inside)
        return np.exp(np.polyval(coefficients, inside) + straight)

    return cost


def frontier(fit: Fit, table: Table, flops: np.ndarray | list[float]) -> list[Optimum]:
    """The optimum at each compute, with the intervals of the bootstrap's refits."""
    low, high = table.n_params.min() / 100, table.n_params.max() * 1000
    n_grid = np.geomspace(low, high, int(GRID_PER_DECADE * np.log10(high / low)))
    cost = cost_per_token(table)(n_grid)
    found = []
    for compute in np.asarray(flops, float):
        tokens = compute / cost
        logs_NF = np.log(np.stack([n_grid, tokens], axis=1))
        losses = log_prediction(fit.form, fit.params_P[None], logs_NF)[0]
        best = int(losses.argmin())
        drawn = log_prediction(fit.form, fit.draws_BP, logs_NF)
        drawn = np.where(np.isfinite(drawn), drawn, np.inf)
        picks = drawn.argmin(axis=1)
        lost = ~np.isfinite(fit.draws_BP).all(axis=1)
        lowest = np.exp(drawn[np.arange(len(picks)), picks])
        found.append(
            Optimum(
                flops=float(compute),
                n_params=interval(
                    n_grid[best], np.where(lost, np.nan, n_grid[picks]), fit.confidence
                ),
                tokens=interval(
                    tokens[best], np.where(lost, np.nan, tokens[picks]), fit.confidence
                ),
                loss=interval(
                    float(np.exp(losses[best])), np.where(lost, np.nan, lowest), fit.confidence
                ),
            )
        )
    return found
