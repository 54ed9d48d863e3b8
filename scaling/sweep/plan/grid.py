"""Combine axes, lists of changes to a config, into the grid of a sweep."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from scaling.config.check import unknown_key
from scaling.config.flat_dict import flatten
from scaling.config.hashing import NAMES_RUN
from scaling.utils.errors import UserError

Axis = list[dict[str, Any]]
NEVER_SWEPT = ("name", "sweep", "launch", "laws")  # sections that a run does not use


def axis(key: str, values: Sequence[Any]) -> Axis:
    """Return the axis of one key and its values."""
    return [{key: value} for value in values]


def points(keys: str | Sequence[str], values: Any, where: str) -> Axis:
    """Return the axis of one key, or of several zipped keys, whose values are tuples.

    `where` names the values in errors. Raises UserError if they are not a list, or a tuple has not
    one value per key.
    """
    if not isinstance(values, (tuple, list)):
        raise UserError(f"{where}={values!r} should be a tuple of values")
    if isinstance(keys, str):
        return axis(keys, values)
    for i, point in enumerate(values):
        count = len(point) if isinstance(point, (tuple, list)) else "no tuple of"
        if count != len(keys):
            raise UserError(
                f"{where}[{i}]={point!r} has {count} values for the {len(keys)} zipped keys "
                f"{', '.join(keys)}; give one value per key at every point"
            )
    return [dict(zip(keys, point, strict=True)) for point in values]


def product(*all_axes: Axis) -> Iterator[dict[str, Any]]:
    """Yield every combination of one point per axis; the last axis varies fastest."""
    for combination in itertools.product(*all_axes):
        yield {key: value for point in combination for key, value in point.items()}


def check(config: ConfigDict, keys: Sequence[str | Sequence[str]], where: str) -> None:
    """Check the swept keys. Raises UserError if one is unknown, repeated, or changes no run.

    An entry of `keys` is one axis: a key, or a tuple of zipped keys.
    """
    known, seen = flatten(config), set()
    for entry in keys:
        group = (entry,) if isinstance(entry, str) else entry
        valid = isinstance(group, (tuple, list)) and all(isinstance(key, str) for key in group)
        if not valid or not group:
            raise UserError(f"{where}: {entry!r} is neither a key nor a tuple of keys")
        for key in group:
            if key not in known:
                raise UserError(f"{where}: config.{key}: {unknown_key(key, known)}")
            if key.split(".")[0] in NEVER_SWEPT:
                raise UserError(
                    f"{where}: {key} describes the sweep, not a run, and cannot be swept"
                )
            if key in seen:
                raise UserError(f"{where}: {key} appears twice; name each key once")
            seen.add(key)
        if not any(key in NAMES_RUN for key in group):
            raise UserError(
                f"{where}: {', '.join(group)} cannot change a run's numbers; its runs would be "
                "duplicates"
            )
    if "seed" in seen and tuple(config.sweep.seeds) != (0,):
        raise UserError(f"{where}: seed is swept, so config.sweep.seeds should stay (0,)")
