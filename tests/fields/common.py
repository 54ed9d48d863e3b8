"""Every field with every architecture: the configs of their tiny runs, and the runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import jax

from scaling import results
from scaling.config import load as config_lib
from scaling.data import speech
from scaling.training import loop

KINDS = ("transformer", "mlp", "cnn", "lstm", "lru")
RUN = {
    "model.depth": 1,
    "model.width": 16,
    "model.head_dim": 8,
    "model.mlp_width": 32,
    "optim.lr": 1e-2,
    "train.steps_per_dispatch": 16,
    "eval.batch_size": 32,
    "train.batch_size": 16,
}
GRID = {"model.positions": "learned", "data.channels": 1, "train.tokens": 16 * 64}
FIELDS = {
    "language": {"data.seq_len": 16, "train.tokens": 16 * 16 * 32, "eval.tokens": 2_048},
    "vision": {
        **GRID,
        "data.name": "digits",
        "data.height": 8,
        "data.width": 8,
        "data.classes": 10,
        "data.valid_fraction": 0.2,
        "data.crop": 1,
        "data.mixup": 0.2,
        "eval.tokens": 300,
    },
    "speech": {
        **GRID,
        "data.name": "debian/festvox_ru",
        "data.height": 16,
        "data.width": 40,
        "data.classes": 51,
        "data.time_masks": 1,
        "data.mask_frames": 2,
        "model.patch_width": 8,
        "eval.tokens": 500,
    },
    "recommend": {
        "data.name": "python_identifiers",
        "data.vocab_size": 3_379,
        "data.seq_len": 16,
        "model.tied_head": True,
        "train.tokens": 16 * 16 * 32,
        "eval.tokens": 200,
    },
}


def config_of(field: str, **values):
    base = config_lib.base_config()
    return config_lib.with_values(base, {**RUN, "data.field": field, **FIELDS[field], **values})


def pairs() -> Iterator[tuple[str, str, int]]:
    """Yield (field, kind, experts) of each run."""
    required = os.environ.get("SCALING_REQUIRE_DEBIAN_DATA") == "1"
    for field in FIELDS:
        if field == "speech" and not Path(speech.FESTVOX_FOLDER).is_dir() and not required:
            continue  # apt-get install festvox-ru
        for kind, experts in [*((kind, 0) for kind in KINDS), ("transformer", 4)]:
            yield field, kind, experts


def pair_config(field: str, kind: str, experts: int):
    return config_of(field, **{"model.kind": kind, "model.experts": experts})


def train_all(workdir: Path) -> None:
    """Train every pair, and write their table."""
    # as many programs as runs, each run once: their time is their compilation
    optimised = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        configs = [pair_config(*pair) for pair in pairs()]
        rows = [loop.train_run(c, workdir / "runs" / loop.run_id(c)) for c in configs]
    finally:
        jax.config.update("jax_disable_most_optimizations", optimised)
    results.write_table(workdir, rows)
