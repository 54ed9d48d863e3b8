"""Compute the optimal frontier of a law of size and data for any cost per token.

Exact FLOPs (heads, attention) have no closed form as in `closed_form.py`. L(N, C / c(N)) is
therefore minimised over N on a fine grid, with c(N) the training FLOPs per token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.fit import Fit
from scaling.laws.multistart import log_prediction
from scaling.laws.table import Table

GRID_PER_DECADE = 200


@dataclass(frozen=True)
class Optimum:
    """The optimal size, tokens and loss (nats per token) at one compute in FLOPs."""

    flops: float
    n_params: Interval
    tokens: Interval
    loss: Interval


def cost_per_token(table: Table) -> Callable[[np.ndarray], np.ndarray]:
    """Fit FLOPs per token as a function of size: a parabola in logs through the table's rows."""
    x, y = np.log(table.n_params), np.log(table.flops / table.tokens)
    degree = min(2, len(np.unique(x)) - 1)
    coefficients = np.polyfit(x, y, degree)
    low, high = x.min(), x.max()
    slopes = np.polyder(coefficients)

    def cost(n_params: np.ndarray) -> np.ndarray:
        log_n = np.log(n_params)
        nearest = np.clip(log_n, low, high)
        # continue with the slope at the end outside the measured sizes
        straight = np.polyval(slopes, nearest) * (log_n - nearest)
        return np.exp(np.polyval(coefficients, nearest) + straight)

    return cost


def frontier(fit: Fit, table: Table, flops: np.ndarray | list[float]) -> list[Optimum]:
    """Return the optimum at each compute in FLOPs, with intervals from the bootstrap's refits."""
    low, high = table.n_params.min() / 100, table.n_params.max() * 1000
    n_grid = np.geomspace(low, high, int(GRID_PER_DECADE * np.log10(high / low)))
    cost = cost_per_token(table)(n_grid)
    optima = []
    for compute in np.asarray(flops, float):
        tokens = compute / cost
        logs_NF = np.log(np.stack([n_grid, tokens], axis=1))
        losses = log_prediction(fit.form, fit.params_P[None], logs_NF)[0]
        best = int(losses.argmin())
        log_losses_BN = log_prediction(fit.form, fit.draws_BP, logs_NF)
        log_losses_BN = np.where(np.isfinite(log_losses_BN), log_losses_BN, np.inf)
        best_B = log_losses_BN.argmin(axis=1)
        failed_B = ~np.isfinite(fit.draws_BP).all(axis=1)
        lowest_B = np.exp(log_losses_BN[np.arange(len(best_B)), best_B])
        optima.append(
            Optimum(
                flops=float(compute),
                n_params=interval(
                    n_grid[best],
                    np.where(failed_B, np.nan, n_grid[best_B]),
                    fit.confidence,
                    fit.freedom,
                ),
                tokens=interval(
                    tokens[best],
                    np.where(failed_B, np.nan, tokens[best_B]),
                    fit.confidence,
                    fit.freedom,
                ),
                loss=interval(
                    float(np.exp(losses[best])),
                    np.where(failed_B, np.nan, lowest_B),
                    fit.confidence,
                    fit.freedom,
                ),
            )
        )
    return optima
