"""Say how far a prediction lies beyond the rows, in each input and in compute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling.laws.table import Table
from scaling.utils import notices
from scaling.utils.notices import Kind, Notice

FAR = 100.0  # a prediction this many times beyond the rows lowers the verdict
INSIDE = 1.0 + 1e-9
SYMBOLS = {"n_params": "N", "tokens": "D", "flops": "C"}


def beyond(table: Table, at: Mapping[str, float]) -> dict[str, float]:
    """Return how many times beyond the rows a point lies, per input and in `flops`; 1 if inside.

    A factor above 1 is over the largest value, one below 1 under the smallest. Compute is
    n_params times tokens where the point has both.
    """
    made = {name: _factor(table[name], value) for name, value in at.items() if name in table}
    if {"n_params", "tokens"} <= set(at) and {"n_params", "tokens"} <= set(table.columns):
        made["flops"] = _factor(table.n_params * table.tokens, at["n_params"] * at["tokens"])
    return made


def _factor(rows_N: np.ndarray, value: float) -> float:
    low, high = float(rows_N.min()), float(rows_N.max())
    factor = value / high if value > high else min(value / low, 1.0)
    return 1.0 if 1 / INSIDE < factor < INSIDE else float(factor)


def notice(table: Table, at: Mapping[str, float]) -> list[Notice]:
    """Return a notice if a point lies beyond the rows; a far one lowers the verdict."""
    factors = {name: factor for name, factor in beyond(table, at).items() if factor != 1.0}
    if not factors:
        return []
    point = " ".join(f"{SYMBOLS.get(name, name)} {value:.4g}" for name, value in at.items())
    texts = [
        f"{factor:.3g} times the largest {SYMBOLS.get(name, name)}"
        if factor > 1
        else f"{1 / factor:.3g} times below the smallest {SYMBOLS.get(name, name)}"
        for name, factor in factors.items()
    ]
    furthest = max(max(factor, 1 / factor) for factor in factors.values())
    end = ", far from any run: no law is tested there" if furthest > FAR else ""
    text = f"{point} lies beyond the rows: {', '.join(texts)}{end}"
    return [Notice(kind(furthest), text)]


def kind(furthest: float) -> Kind:
    """Return the kind of a notice on a prediction this many times beyond the rows."""
    return notices.FAR_EXTRAPOLATION if furthest > FAR else notices.EXTRAPOLATED
