"""Compute-optimal frontier of a parametric law where a token's cost is any function of size.

Minimises L(N, C / c(N)) over N on a fine grid, with c(N) the training FLOPs per token. With c(N) = 6 N it
agrees with the closed form of `parametric.py`; with exact FLOPs (heads, attention) there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.parametric import NAMES, ChinchillaFit, chinchilla_loss
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


def frontier(fit: ChinchillaFit, table: Table, flops: np.ndarray | list[float]) -> list[Optimum]:
    """The optimum at each compute, with the intervals of the bootstrap's refits."""
    low, high = table.n_params.min() / 100, table.n_params.max() * 1000
    n_grid = np.geomspace(low, high, int(GRID_PER_DECADE * np.log10(high / low)))
    cost = cost_per_token(table)(n_grid)
    columns = {k: fit.draws[:, i, None] for i, k in enumerate(NAMES)}
    found = []
    for compute in np.asarray(flops, float):
        tokens = compute / cost
        losses = chinchilla_loss(fit.values, n_grid, tokens)
        best = int(losses.argmin())
        drawn = chinchilla_loss(columns, n_grid[None], tokens[None])
        drawn = np.where(np.isfinite(drawn), drawn, np.inf)
        picks = drawn.argmin(axis=1)
        found.append(
            Optimum(
                flops=float(compute),
                n_params=interval(n_grid[best], n_grid[picks], fit.confidence),
                tokens=interval(tokens[best], tokens[picks], fit.confidence),
                loss=interval(losses[best], drawn[np.arange(len(picks)), picks], fit.confidence),
            )
        )
    return found
