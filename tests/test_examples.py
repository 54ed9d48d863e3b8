"""The examples of docs/extending.md: short, planned, trained, counted as the compiler counts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scaling import accounting
from scaling.config import load as config_lib
from scaling.models import parametrization
from scaling.programs import schedules
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.utils import plugins
from tests.common import ROOT, STEP, TINY
from tests.test_accounting import compiled_flops

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# the name of each example's file is the name that it registers
VALUES = {
    "plugins": tuple(file.stem for file in EXAMPLES),
    "model.mlp": "geglu",
    "optim.name": "signum",
    "optim.schedule": "linear",
    "data.name": "sums",
    "data.hash": None,
}


@pytest.fixture
def config():
    plugins.load(VALUES["plugins"], [ROOT / "examples"])
    return config_lib.with_values(
        config_lib.load("mini"), {**TINY, **VALUES, "train.tokens": STEP * 64}
    )


def test_examples_are_short_and_documented():
    page = (ROOT / "docs" / "extending.md").read_text()
    for file in EXAMPLES:
        assert len(file.read_text().splitlines()) <= 20
        assert f"examples/{file.name}" in page
    assert sorted(VALUES["plugins"]) == sorted(
        value for key, value in VALUES.items() if key != "plugins" and value
    )


def test_examples_are_planned_and_trained(config, tmp_path):
    run = planner.plan_run(config)
    (row,) = runner.sweep([run], tmp_path / "w").results
    assert row.status == "done" and row.loss < math.log(256) - 1  # nats; bytes at random
    assert row.n_params == run.n_params and row.schedule == "linear"
    stored = config_lib.from_json(config_lib.to_json(config))
    assert planner.plan_run(stored).run_id == run.run_id


def test_the_flops_of_geglu_are_within_one_percent_of_the_compilers(config):
    width = 2048  # nothing is computed; elementwise operations, not counted, are few
    wide = config_lib.with_values(config, {
        "model.width": width, "model.mlp_width": 4 * width, "model.head_dim": 128,
        "model.matmul": "plain", "model.attention": "plain",
    })  # fmt: skip
    tokens = 2 * wide.data.seq_len
    ours = accounting.flops_per_token(accounting.shape_of(wide), "exact") * tokens
    assert compiled_flops(wide, 2) == pytest.approx(ours, rel=0.01)


def test_signum_has_a_rule_of_width_and_linear_ends_at_zero(config):
    assert parametrization.step_exponent("signum") == -1.0
    hyper = schedules.hyperparameters(config)
    assert schedules.learning_rate("linear", hyper["total"] - 1, hyper) == 0.0
    assert schedules.learning_rate("linear", hyper["warmup"] - 1, hyper) == hyper["lr"]


def copied(folder: Path) -> Path:
    """Return a folder with the examples, outside of the repository."""
    folder.mkdir()
    for file in EXAMPLES:
        (folder / file.name).write_text(file.read_text())
    return folder
