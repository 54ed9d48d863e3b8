"""Random sweeps: seeded draws from ranges of keys. More draws keep the earlier ones."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from scaling.config.flat_dict import flatten
from scaling.sweep.plan import grid
from scaling.sweep.plan.request import RunRequest
from scaling.utils.errors import UserError

RANGES = ("uniform", "log", "choice")
TRIES = 100  # draws per run wanted, before a sweep is said to have too few different ones


def draw_runs(config: ConfigDict) -> Iterator[RunRequest]:
    """`sweep.random_count` different draws from `sweep.random_ranges`.

    A range is (key, "uniform" | "log", low, high), both ends included, or (key, "choice", value, ...),
    where the key may be a tuple of keys and each value a tuple of theirs (a zip). Draws are a function of
    sweep.random_seed alone. Raises UserError where a range is malformed or holds too few values.
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
    ranges = [_checked(*r, where=f"{where}[{i}]") for i, r in enumerate(s.random_ranges)]
    whole = {key for key, value in flatten(config).items() if type(value) is int}
    rng = random.Random(s.random_seed)
    seen: set[str] = set()
    for _ in range(TRIES * s.random_count):
        if len(seen) == s.random_count:
            return
        # one number per range and draw, whatever comes of it: later draws do not move earlier ones
        values: dict[str, Any] = {}
        for r in ranges:
            values.update(_drawn(*r, u=rng.random(), whole=whole))
        if repr(values) not in seen:
            seen.add(repr(values))
            yield RunRequest(values)
    if len(seen) < s.random_count:
        raise UserError(
            f"config.sweep.random_count={s.random_count}: the ranges gave only {len(seen)} different "
            "runs; ask for fewer or widen them"
        )


def _checked(key: Any, kind: str, *values: Any, where: str) -> tuple:
    """A range as it is used: the points of a choice made. Raises UserError where its values are wrong."""
    if kind == "choice":
        return key, kind, grid.points(key, values, where)
    numbers = len(values) == 2 and all(type(v) in (int, float) for v in values)
    if not isinstance(key, str) or not numbers or not -math.inf < values[0] < values[1] < math.inf:
        raise UserError(f"{where}: {kind} takes one key and two numbers, low < high")
    if kind == "log" and not values[0] > 0:
        raise UserError(f"{where}: log takes positive numbers, not {values[0]!r}")
    return key, kind, *values


def _drawn(key: Any, kind: str, *rest: Any, u: float, whole: set[str]) -> dict[str, Any]:
    """What a range gives at `u` in [0, 1): six digits, or whole numbers for the keys of `whole`."""
    if kind == "choice":
        points = rest[0]
        return points[int(u * len(points))]
    low, high = rest
    if key in whole and kind == "uniform":
        return {key: math.ceil(low) + int(u * (math.floor(high) - math.ceil(low) + 1))}
    value = low + u * (high - low) if kind == "uniform" else low * (high / low) ** u
    return {key: round(value) if key in whole else min(max(float(f"{value:.6g}"), low), high)}
