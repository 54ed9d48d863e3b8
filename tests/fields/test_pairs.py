"""Every field with every architecture, on real data: each trains and has its metrics."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import jax
import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.data import speech
from scaling.training import loop
from scaling.utils import files

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
CLASSES = {
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "f1_micro",
    "auc",
    "top5_accuracy",
}
METRICS = {
    "language": {"perplexity", "accuracy"},
    "vision": CLASSES,
    "speech": CLASSES,
    "recommend": {"hit@1", "hit@10", "ndcg@10", "mrr"},
}


def config_of(field: str, **values):
    base = config_lib.base_config()
    return config_lib.with_values(base, {**RUN, "data.field": field, **FIELDS[field], **values})


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[tuple[str, str, int], results.RunResult]:
    """(field, kind, experts) -> the result of its run, all of them in one workdir."""
    # as many programs as runs, each run once: their time is their compilation
    optimised = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        return _trained(tmp_path_factory.mktemp("pairs"))
    finally:
        jax.config.update("jax_disable_most_optimizations", optimised)


def _trained(workdir: Path) -> dict[tuple[str, str, int], results.RunResult]:
    required = os.environ.get("SCALING_REQUIRE_DEBIAN_DATA") == "1"
    found = {}
    for field in FIELDS:
        if field == "speech" and not Path(speech.FESTVOX_FOLDER).is_dir() and not required:
            continue  # apt-get install festvox-ru
        for kind, experts in [*((kind, 0) for kind in KINDS), ("transformer", 4)]:
            config = config_of(field, **{"model.kind": kind, "model.experts": experts})
            folder = workdir / "runs" / loop.run_id(config)
            found[field, kind, experts] = loop.train_run(config, folder)
            logged = files.read_lines(folder / "metrics.jsonl", "step")
            assert logged[-1]["loss"] < logged[0]["loss"], (field, kind, experts)
    results.write_table(workdir, list(found.values()))
    table, damaged = results.read_table(workdir / "runs.csv")
    assert not damaged and {r.run_id for r in table} == {r.run_id for r in found.values()}
    by_id = {row.run_id: row for row in table}
    return {key: by_id[row.run_id] for key, row in found.items()}


def test_all_end_in_order_with_their_metrics_and_standard_errors(rows):
    for (field, kind, experts), row in rows.items():
        assert row.status == "done" and row.field == field, (field, kind, experts)
        for name in METRICS[field]:
            assert math.isfinite(row.metrics[name]), (field, kind, name)
            assert row.metrics[f"{name}_se"] >= 0
        assert (row.bits_per_byte is None) == (field != "language")


def test_they_know_more_than_nothing(rows):
    for (field, kind, _), row in rows.items():
        nothing = {"language": 256, "vision": 10, "speech": 51, "recommend": 3_378}[field]
        assert row.loss < math.log(nothing), (field, kind)


def test_the_confusion_matrix_adds_up_to_the_examples(tmp_path):
    config = config_of("vision", **{"model.kind": "mlp"})
    result = loop.train_run(config, tmp_path / "run")
    evaluation = files.read_json(tmp_path / "run" / "evaluation.json")
    matrix = evaluation["confusion"]
    right = sum(matrix[i][i] for i in range(10))
    assert sum(map(sum, matrix)) == 300 and evaluation["classes"] == [str(i) for i in range(10)]
    assert right / 300 == pytest.approx(result.metrics["accuracy"], abs=1e-9)


def test_killed_and_resumed_to_the_bit(tmp_path):
    """Augmented and mixed batches are sought, too."""
    config = config_of("vision", **{"checkpoint.every_tokens": 256})
    whole = loop.train_run(config, tmp_path / "whole")
    loop.train_runs([loop.RunSpec(config, tmp_path / "part", until=32)])
    shutil.rmtree(tmp_path / "part" / "tensorboard")
    again = loop.train_run(config, tmp_path / "part")
    assert (again.loss, again.metrics) == (whole.loss, whole.metrics)
