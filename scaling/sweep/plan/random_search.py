"""Draw the runs of a random sweep from ranges of keys; more draws keep the earlier ones."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from scaling.config.keys import KEYS
from scaling.sweep.plan import grid
from scaling.sweep.plan.request import RunRequest
from scaling.utils.errors import UserError

RANGES = ("uniform", "log", "choice")
TRIES = 100  # draws per different run before the ranges count as too small
MAX_SPAN = 1e100  # difference, or ratio for log, of the ends of a range


def draw_runs(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield `sweep.random_count` different draws from `sweep.random_ranges`.

    A range is (key, "uniform" | "log", low, high), both ends included, or (key, "choice", value,
    ...), whose key may be a tuple of keys and each value a tuple of their values (a zip). Draws
    depend on sweep.random_seed alone. Raises UserError if a range is malformed or too small.
    """
    s, where = config.sweep, "config.sweep.random_ranges"
    if not s.random_ranges:
        raise UserError(f'{where} is empty; give e.g. (("optim.lr", "log", 1e-4, 1e-2),)')
    for i, r in enumerate(s.random_ranges):
        if not isinstance(r, (tuple, list)) or len(r) < 3 or r[1] not in RANGES:
            raise UserError(
                f'{where}[{i}]={r!r}: write (key, "uniform" or "log", low, high) or '
                '(key, "choice", value, ...)'
            )
    grid.check(config, [r[0] for r in s.random_ranges], where)
    ranges = [_check_range(*r, where=f"{where}[{i}]") for i, r in enumerate(s.random_ranges)]
    whole = {name for name, key in KEYS.items() if key.type is int}
    rng = random.Random(s.random_seed)
    seen: set[str] = set()
    draws = 0
    while draws < TRIES * min(s.random_count, len(seen) + 1):
        if len(seen) == s.random_count:
            return
        draws += 1
        # always one number per range and draw, so that more draws keep the earlier ones
        values: dict[str, Any] = {}
        for r in ranges:
            values.update(_draw(*r, u=rng.random(), whole=whole))
        if repr(values) not in seen:
            seen.add(repr(values))
            yield RunRequest(values)
    if len(seen) < s.random_count:
        raise UserError(
            f"config.sweep.random_count={s.random_count}: the ranges gave only {len(seen)} "
            "different runs; lower it or widen them"
        )


def _check_range(key: Any, spacing: str, *values: Any, where: str) -> tuple:
    """Return a range, a choice as its points. Raises UserError if its values are wrong."""
    if spacing == "choice":
        return key, spacing, grid.points(key, values, where)
    numbers = len(values) == 2 and all(type(v) in (int, float) for v in values)
    if not isinstance(key, str) or not numbers or not -math.inf < values[0] < values[1] < math.inf:
        raise UserError(f"{where}: {spacing} takes one key and two numbers, low < high")
    if spacing == "log" and not values[0] > 0:
        raise UserError(f"{where}: log takes positive numbers, not {values[0]!r}")
    low, high = values
    if not (high - low if spacing == "uniform" else high / low) < MAX_SPAN:
        raise UserError(f"{where}: from {low:g} to {high:g} is too wide a range")
    return key, spacing, *values


def _draw(key: Any, spacing: str, *rest: Any, u: float, whole: set[str]) -> dict[str, Any]:
    """Return the value of a range at `u` in [0, 1): six digits, or whole for keys in `whole`."""
    if spacing == "choice":
        points = rest[0]
        return points[int(u * len(points))]
    low, high = rest
    if key in whole and spacing == "uniform":
        return {key: math.ceil(low) + int(u * (math.floor(high) - math.ceil(low) + 1))}
    value = low + u * (high - low) if spacing == "uniform" else low * (high / low) ** u
    return {key: round(value) if key in whole else min(max(float(f"{value:.6g}"), low), high)}
