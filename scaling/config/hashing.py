"""Names of runs and sweeps: hashes of their configs without the keys that change no number.

Hashes are taken of the encoding in files, see scaling/config/key.py, so that names never move.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from ml_collections import ConfigDict

from scaling.config.flat_dict import flatten
from scaling.config.keys import ENCODED, KEYS, encode, named_by
from scaling.utils import plugins

NAMES_RUN = named_by("run")
NAMES_SWEEP = named_by("run", "sweep")
# Keys that came after the first runs or sweeps were named, and their defaults. At these values they
# are left out of the hashes, so that older runs and sweeps keep their names.
LATER = {
    name: key.encode(key.default)
    for name, key in KEYS.items()
    if key.later or (name in NAMES_RUN and key.since != 1)
}


def run_id(c: ConfigDict | Mapping[str, Any]) -> str:
    """Return a run's name: shape, length and seed, then the hash of all that changes its numbers.

    Takes a config or the flat dict of one.
    """
    f = _flat(c)
    slug = (
        f"d{f['model.width']}-l{f['model.depth']}-t{f['train.tokens']:.3g}"
        f"-lr{f['optim.lr']:.2g}-s{f['seed']}"
    )
    return f"{slug.replace('+', '')}-{run_hash(f)}"


def run_hash(c: ConfigDict | Mapping[str, Any]) -> str:
    """Return ten hexadecimal digits of the keys that change a run's numbers."""
    return _named(c, NAMES_RUN, _further(_flat(c)))


def sweep_hash(c: ConfigDict | Mapping[str, Any]) -> str:
    """Return ten hexadecimal digits of the keys that decide which runs a sweep has."""
    return _named(c, NAMES_SWEEP, {})


def sweep_values(c: ConfigDict | Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys behind `sweep_hash` and their values."""
    return {key: value for key, value in _flat(c).items() if key in NAMES_SWEEP}


def without(c: ConfigDict | Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """Return the config as a flat dict without these keys."""
    return {key: value for key, value in _flat(c).items() if key not in left_out}


def digest(content: str, digits: int) -> str:
    """Return the first hexadecimal digits of a SHA-256: the one digest of configs."""
    return hashlib.sha256(content.encode()).hexdigest()[:digits]


def _further(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return what else changes a run's numbers: a key of some runs, or a new meaning."""
    values: dict[str, Any] = {}
    if flat.get("optim.cooldown") == "merge":  # checkpoints are merged at logged steps
        values["train.log_every"] = flat["train.log_every"]
    if flat.get("data.field", "language") == "language" and flat["data.unique_tokens"]:
        values["data.unique_tokens of"] = "windows drawn at random"  # the first tokens, once
    if names := flat.get("plugins"):
        values["plugins of"] = plugins.hashes(names)
    return values


def _named(
    c: ConfigDict | Mapping[str, Any], names: frozenset[str], further: Mapping[str, Any]
) -> str:
    flat, values = _flat(c), {}
    for key in _sorted(tuple(flat), names):
        value = encode(key, flat[key]) if key in ENCODED else flat[key]
        if key not in LATER or value != LATER[key]:
            values[key] = value
    return digest(json.dumps(values | dict(further), sort_keys=True, default=list), 10)


@functools.cache
def _sorted(keys: tuple[str, ...], names: frozenset[str]) -> tuple[str, ...]:
    """Return the keys of a hash in order: sorting them again costs a plan of many runs nothing."""
    return tuple(sorted(key for key in keys if key in names))


def _flat(c: ConfigDict | Mapping[str, Any]) -> Mapping[str, Any]:
    return flatten(c) if isinstance(c, ConfigDict) else c
