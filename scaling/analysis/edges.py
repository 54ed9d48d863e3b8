"""Find the budgets of an IsoFLOP sweep whose best size is the smallest or largest measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling.laws.seeds import repeats
from scaling.laws.table import Table

MIN_SIZES = 2  # one size has no edge


def of_budgets(table: Table) -> list[dict[str, Any]]:
    """Return `budget` (FLOPs), `side` (low or high) and `n_params` of each best size at an edge."""
    edges: list[dict[str, Any]] = []
    for budget in np.unique(table.budget[table.budget > 0]):
        rows = table.rows(table.budget == budget)
        points = repeats([rows.n_params], rows.loss)
        sizes = rows.n_params[points.first_P]
        best = sizes[np.argmin(points.mean_P)]
        for side, end in (("low", sizes.min()), ("high", sizes.max())):
            if len(sizes) >= MIN_SIZES and best == end:
                edges.append({"budget": float(budget), "side": side, "n_params": float(best)})
    return edges
