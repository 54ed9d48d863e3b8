"""Every field with every architecture, on real data: each trains and has its metrics."""

from __future__ import annotations

import math
import shutil

import pytest

from scaling import results
from scaling.training import loop
from scaling.utils import files
from tests.fields import common
from tests.fields.common import config_of

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


@pytest.fixture(scope="module")
def rows(pairs_workdir) -> dict[tuple[str, str, int], results.RunResult]:
    """(field, kind, experts) -> the result of its run, all of them in one workdir."""
    table, damaged = results.read_table(pairs_workdir / "runs.csv")
    assert not damaged
    by_id = {row.run_id: row for row in table}
    found = {pair: by_id.pop(loop.run_id(common.pair_config(*pair))) for pair in common.pairs()}
    assert not by_id
    return found


def test_each_learns(rows, pairs_workdir):
    for pair, row in rows.items():
        logged = files.read_lines(pairs_workdir / "runs" / row.run_id / "metrics.jsonl", "step")
        assert logged[-1]["loss"] < logged[0]["loss"], pair


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
