"""Build plans to compare a proposal with: the expected optimum and an IsoFLOP grid along it.

Shapes: S draws of all beliefs, C computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.laws.closed_form import closed_form
from scaling.laws.design import Prior, Target, expected_se
from scaling.laws.table import Table, make_table

SIZES = 8  # sizes per budget of a grid; budgets are half a decade of compute apart
MOST_BUDGETS, LEAST_SIZES = 6, 3
GRID_DECADES = 1.0  # decades of size per budget, with the expected optimum in the middle


def expected_optimum(
    beliefs: Sequence[Prior], flops, flops_per_n_d: float = 6.0, coverage: float = 0.8
) -> np.ndarray:
    """Return `[3, C]` optimal sizes N* expected at `flops`: geometric mean, low end, high end.

    The ends enclose the share `coverage` of the beliefs' draws. Tokens are flops / (flops_per_n_d
    N*). Raises CannotFit for a form without an optimum in closed form.
    """
    products_C = np.atleast_1d(np.asarray(flops, float)) / flops_per_n_d
    logs, weights = [], []
    for belief in beliefs:
        natural_SP = belief.form.natural(belief.params_SP)
        columns = [np.log(closed_form(belief.form.name, natural_SP, p)[0]) for p in products_C]
        logs.append(np.stack(columns, axis=1))
        weights.append(np.full(len(natural_SP), belief.weight / len(natural_SP)))
    log_SC, weight_S = np.concatenate(logs), np.concatenate(weights)
    finite_S = np.isfinite(log_SC).all(axis=1)
    log_SC, weight_S = log_SC[finite_S], weight_S[finite_S]
    middle_C = np.average(log_SC, axis=0, weights=weight_S)
    ends = ((1 - coverage) / 2, (1 + coverage) / 2)
    ends_2C = np.quantile(log_SC, ends, axis=0, weights=weight_S, method="inverted_cdf")
    return np.exp(np.concatenate([middle_C[None], ends_2C]))


def isoflop_grid(
    beliefs: Sequence[Prior],
    *,
    runs: int,
    total_flops: float,
    max_flops: float,
    flops_per_n_d: float = 6.0,
) -> Table | None:
    """Return an IsoFLOP grid along the expected optimum (Hoffmann et al. 2022, approach 2).

    Budgets are half a decade of compute apart, and sizes cover a decade about the optimum. The grid
    has at most `runs` runs, `total_flops` FLOPs in all and `max_flops` per run. It is None if that
    is too few runs for a grid.
    """
    budgets = int(np.clip(round(runs / SIZES), 2, MOST_BUDGETS))
    sizes = runs // budgets
    if sizes < LEAST_SIZES:
        return None
    steps = 10.0 ** (-0.5 * np.arange(budgets))
    dearest = min(max_flops, total_flops / (sizes * steps.sum()))
    centre = expected_optimum(beliefs, dearest * steps, flops_per_n_d)[0]
    spread = 10 ** np.linspace(-GRID_DECADES / 2, GRID_DECADES / 2, sizes)
    n_params = np.outer(centre, spread).ravel()
    flops = np.repeat(dearest * steps, sizes)
    return make_table(
        n_params=n_params, tokens=flops / (flops_per_n_d * n_params), flops=flops, budget=flops
    )


def mean_se(
    beliefs: Sequence[Prior],
    targets: Sequence[Target],
    runs: Table,
    flops_per_n_d: float = 6.0,
) -> dict[Target, float]:
    """Return `expected_se` of several beliefs: the root of the weighted mean variance."""
    total_weight = sum(b.weight for b in beliefs)
    se_per_belief = [expected_se(b, targets, runs, flops_per_n_d) for b in beliefs]
    return {
        t: float(
            np.sqrt(
                sum(b.weight * se[t] ** 2 for b, se in zip(beliefs, se_per_belief, strict=True))
                / total_weight
            )
        )
        for t in targets
    }
