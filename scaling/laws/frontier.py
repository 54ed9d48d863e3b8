"""Compute-optimal frontier of a law of size and data, where a token's cost is any function of size.

With exact FLOPs (heads, attention) there is no closed form as in `optimum.py`, so L(N, C / c(N)) is
minimised over N on a fine grid, c(N) being the training FLOPs per token.
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
    """What the law prescribes and expects at one compute."""

    flops: float
    n_params: Interval
    tokens: Interval
    loss: Interval


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
                    n_grid[best], np.where(lost, np.nan, n_grid[picks]), fit.confidence, fit.freedom
                ),
                tokens=interval(
                    tokens[best], np.where(lost, np.nan, tokens[picks]), fit.confidence, fit.freedom
                ),
                loss=interval(
                    float(np.exp(losses[best])),
                    np.where(lost, np.nan, lowest),
                    fit.confidence,
                    fit.freedom,
                ),
            )
        )
    return found
