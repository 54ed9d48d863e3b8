"""Combinators of sweeps: an axis is a list of changes to a config, a product of axes is a sweep."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.config.flat_dict import flatten
from scaling.config.hashing import NOT_IN_RUN_HASH, decides
from scaling.utils.errors import UserError

Axis = list[dict[str, Any]]
NEVER_SWEPT = ("name", "sweep", "launch", "laws")  # a run knows none of these


def axis(key: str, values: Sequence[Any]) -> Axis:
    """One key and its values."""
    return [{key: value} for value in values]


def points(keys: str | Sequence[str], values: Any, where: str) -> Axis:
    """The axis of one key and its values, or of several keys zipped: each value a tuple, one per key.

    `where` names the values in errors. Raises UserError where they are no list, or a zip is uneven.
    """
    if not isinstance(values, (tuple, list)):
        raise UserError(f"{where}={values!r} should be a tuple of values")
    if isinstance(keys, str):
        return axis(keys, values)
    for i, point in enumerate(values):
        given = len(point) if isinstance(point, (tuple, list)) else "no tuple of"
        if given != len(keys):
            raise UserError(
                f"{where}[{i}]={point!r} has {given} values for the {len(keys)} zipped keys "
                f"{', '.join(keys)}; give one value per key at every point"
            )
    return [dict(zip(keys, point, strict=True)) for point in values]


def product(*all_axes: Axis) -> Iterator[dict[str, Any]]:
    """Every combination of one point of each axis, the last axis running fastest."""
    for combination in itertools.product(*all_axes):
        yield {key: value for point in combination for key, value in point.items()}


def check(config: ConfigDict, keys: Sequence[str | Sequence[str]], where: str) -> None:
    """Raises UserError where a swept key does not exist, stands twice, or changes no run.

    An entry of `keys` is one axis: a key, or the keys that are zipped in it.
    """
    known, seen = flatten(config), set()
    for entry in keys:
        group = (entry,) if isinstance(entry, str) else entry
        listed = isinstance(group, (tuple, list)) and all(isinstance(key, str) for key in group)
        if not listed or not group:
            raise UserError(f"{where}: {entry!r} is neither a key nor a tuple of keys")
        for key in group:
            if key not in known:
                raise UserError(
                    f"{where}: config.{key}: no such key{config_lib.nearest(key, known)}"
                )
            if key.split(".")[0] in NEVER_SWEPT:
                raise UserError(
                    f"{where}: {key} describes the sweep, not a run, and cannot be swept"
                )
            if key in seen:
                raise UserError(f"{where}: {key} stands twice; name each key once")
            seen.add(key)
        if not any(decides(key, NOT_IN_RUN_HASH) for key in group):
            raise UserError(
                f"{where}: {', '.join(group)} cannot change a run's numbers; its runs would be "
                "duplicates"
            )
    if "seed" in seen and tuple(config.sweep.seeds) != (0,):
        raise UserError(f"{where}: seed is swept, so config.sweep.seeds should stay (0,)")
