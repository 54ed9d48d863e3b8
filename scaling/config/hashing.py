"""What names a run and a sweep: hashes of their configs without what cannot change the numbers."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from scaling.config.flat_dict import flatten

# Sections and keys that cannot change a run's numbers beyond float rounding: they are left out of
# the hash that names the run, so that a run may go on on another mesh or with other logging.
NOT_IN_RUN_HASH: dict[str, tuple[str, ...] | None] = {
    "name": None,
    "parallel": None,
    "checkpoint": None,
    "sweep": None,
    "launch": None,
    "laws": None,
    "data": ("cache_dir", "prefetch", "path"),
    "train": ("steps_per_dispatch", "log_every", "accumulate"),
    "model": ("remat", "scan_layers", "matmul", "attention", "loss_chunk"),
}
# Keys that came after the first runs were named, with the value that leaves a run what it was then:
# at that value they are left out of the hashes, so that old runs keep their names.
YOUNGER: dict[str, Any] = {
    "model.patch_height": 4,
    "model.patch_width": 4,
    "data.field": "language",
    "data.clean": False,
    "data.min_chars": 0,
    "data.max_chars": 0,
    "data.min_letters": 0.0,
    "data.dedupe": "none",
    "data.near_threshold": 0.8,
    "data.height": 0,
    "data.width": 0,
    "data.channels": 0,
    "data.classes": 0,
    "data.max_corrupt": 0.01,
    "data.columns": ("user", "item", "timestamp"),
    "data.min_uses": 5,
    "data.crop": 0,
    "data.flip": False,
    "data.mixup": 0.0,
    "data.noise": 0.0,
    "data.time_masks": 0,
    "data.mask_frames": 0,
    "data.band_masks": 0,
    "data.mask_bands": 0,
    "data.drop_items": 0.0,
    "optim.cooldown": "decay",
    "optim.merge_checkpoints": 8,
    "optim.merge_weights": "uniform",
    "optim.momentum": 0.95,
    "optim.label_smoothing": 0.0,
    "optim.z_loss": 0.0,
    "optim.focal_gamma": 0.0,
    "model.kind": "transformer",
    "model.kernel": 7,
    "model.window": 8,
    "model.experts": 0,
    "model.experts_per_token": 2,
    "model.balance": 0.01,
}
NOT_IN_SWEEP_HASH: dict[str, tuple[str, ...] | None] = {
    "parallel": None,
    "checkpoint": None,
    "launch": None,
    "laws": None,
    "data": ("cache_dir", "prefetch", "path"),
}


def run_id(c: ConfigDict | Mapping[str, Any]) -> str:
    """Readable shape, length and seed, then a hash of everything that can change the numbers.

    Takes a config or the flat dict of one.
    """
    f = _flat(c)
    slug = (
        f"d{f['model.width']}-l{f['model.depth']}-t{f['train.tokens']:.3g}"
        f"-lr{f['optim.lr']:.2g}-s{f['seed']}"
    )
    return f"{slug.replace('+', '')}-{run_hash(f)}"


def run_hash(c: ConfigDict | Mapping[str, Any]) -> str:
    """Ten hexadecimal digits of the config minus what cannot change a run's numbers."""
    return _digest(c, NOT_IN_RUN_HASH, _besides(_flat(c)))


def sweep_hash(c: ConfigDict | Mapping[str, Any]) -> str:
    """Like `run_hash`, over everything that decides which runs a sweep has."""
    return _digest(c, NOT_IN_SWEEP_HASH)


def without(
    c: ConfigDict | Mapping[str, Any], left_out: Mapping[str, tuple[str, ...] | None]
) -> dict[str, Any]:
    """The config as a flat dict, without the sections and keys of `left_out`."""
    return {key: value for key, value in _flat(c).items() if decides(key, left_out)}


def decides(key: str, left_out: Mapping[str, tuple[str, ...] | None]) -> bool:
    """Whether a dotted key is part of the hash that leaves these out."""
    section, _, inner = key.partition(".")
    names = left_out.get(section, ())
    return names is not None and inner not in names


def _besides(flat: Mapping[str, Any]) -> dict[str, Any]:
    """What else decides a run's numbers: keys that do so in some runs alone, and what a key came to mean."""
    found: dict[str, Any] = {}
    if flat.get("optim.cooldown") == "merge":  # checkpoints are merged at logged steps
        found["train.log_every"] = flat["train.log_every"]
    if flat.get("data.field", "language") == "language" and flat["data.unique_tokens"]:
        found["data.unique_tokens of"] = "windows drawn at random"  # the first tokens, once
    return found


def _digest(c, left_out, besides: Mapping[str, Any] | None = None) -> str:
    flat = _flat(c)
    counts = {
        key: flat[key]
        for key in _deciding(tuple(flat), tuple(left_out.items()))
        if key not in YOUNGER or flat[key] != YOUNGER[key]
    }
    text = json.dumps(counts | dict(besides or {}), sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


@functools.cache
def _deciding(keys: tuple[str, ...], left_out: tuple) -> tuple[str, ...]:
    """In order: sorting them again costs a plan of many runs nothing."""
    return tuple(sorted(key for key in keys if decides(key, dict(left_out))))


def _flat(c: ConfigDict | Mapping[str, Any]) -> Mapping[str, Any]:
    return flatten(c) if isinstance(c, ConfigDict) else c
