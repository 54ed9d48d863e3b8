"""No config value and no damaged file ends `plan` or `status` in a traceback or a long wait.

The fast part of benchmarks/faults_config.py, which has the strategies and the property.
"""

from __future__ import annotations

import shutil
import time

import pytest

from benchmarks import faults_config
from benchmarks.faults_config import BASES, Tally
from tests.commands.common import call

ABSURD = {
    "sweep.mlp_ratio=1e308": "config.sweep.mlp_ratio=1e+308: a rung has a side of inf",
    "sweep.width_ratio=1e308": "config.sweep.width_ratio=1e+308: a rung has a side of inf",
    "sweep.aspect_ratio=1e-308": "config.sweep.aspect_ratio=1e-308: a rung has a side of inf",
    "sweep.min_width=1e18": "a rung has a side of 1e+18, and no more than 1,048,576 are planned",
    "sweep.optimum_exponent=1e9": "the guess at 8e+08 FLOPs is no finite number of parameters",
    "sweep.optimum_exponent=-1e9": "the guess at 8e+08 FLOPs is no finite number of parameters",
    "sweep.lr_n_exponent=-1e9": "the learning rate of",
    "sweep.lr_n_exponent=1e9": "config.optim.lr=0.0 should be positive",
    "sweep.rungs=1000000": "config.sweep.rungs=1000000 should be from 1 to 1,000",
    "sweep.min_depth=1e30": "config.sweep.min_depth=1000000000000000000000000000000 should be at m",
    "sweep.budgets=1e308": "config.laws.holdout_factor=3 times the largest of config.sweep.budg",
    "laws.holdout_factor=1e308": "config.laws.holdout_factor=1e+308 times the largest",
    "laws.bootstrap=1e9": "config.laws.bootstrap=1000000000 should be from 1 to 100,000",
    "parallel.cpu_devices=1e6": "config.parallel.cpu_devices=1000000 should be from 1 to 4,096",
    "launch.workers=1e6": "config.launch.workers=1000000 should be from 1 to 4,096, or auto",
    "launch.heartbeat_seconds=1e308": "should be positive and at most 1e9",
    "data.prefetch=1e9": "config.data.prefetch=1000000000 should be from 0 to 1,000",
    "seed=1e30": "config.seed=1000000000000000000000000000000 should be at most",
    "train.tokens=1e30": "should be at most 9,223,372,036,854,775,807",
    f"sweep.grid_keys={'[' * 5000}": "should have equal lengths",
    f"model.kind={'x' * 10**5}": ": choose one of transformer, mlp, cnn, lstm, lru",
}
IN_KIND = {
    "random": {
        "sweep.random_count=1e18": "should be from 1 to 100,000",
        "sweep.random_ranges=(('optim.lr','choice',1e-3),)": "the ranges gave only 1 different",
        "sweep.random_ranges=(('optim.lr','uniform',-1e308,1e308),)": "is too wide a range",
        "sweep.random_ranges=(('optim.lr','log',1e-308,1e308),)": "is too wide a range",
    },
    "grid": {
        f"sweep.seeds={tuple(range(50_001))}": "a plan has at most 100,000 runs",
        "sweep.grid_values=((1e-3,1e400),)": "should hold numbers, texts, booleans",
    },
    "ladder": {"sweep.tokens_per_param=1e308": "config.train.tokens=1000000000000000"},
    "merge": {"optim.merge_checkpoints=1e18": "should be from 1 to 1,000"},
}  # fmt: skip
CASES = [("compute", *x) for x in ABSURD.items()] + [
    (kind, *x) for kind, cases in IN_KIND.items() for x in cases.items()
]


@pytest.mark.parametrize("kind, flag, words", CASES, ids=[case[1][:60] for case in CASES])
def test_an_absurd_value_is_refused_at_once(capsys, kind, flag, words):
    started = time.process_time()
    code, out, err = call(capsys, "plan", *BASES[kind], f"--config.{flag}")
    assert (code, out) == (2, "") and time.process_time() - started < 5
    assert err.startswith("error: ") and words in err and len(err.splitlines()) == 1, err
    assert len(err) < faults_config.LONGEST_LINE


@pytest.fixture
def tally():
    """Commands that have run; none may have a fault."""
    tally = Tally(seconds=20.0)
    yield tally
    assert tally.tried > 40 and not tally.faults


def test_values_of_every_kind_of_key_are_planned_or_refused(tally, tmp_path):
    faults_config.fuzz_plan(tally, 200, 0, tmp_path)


def test_damaged_files_of_a_study_leave_status_one_line(tally, mini, tmp_path):
    shutil.copytree(mini, tmp_path / "w", ignore=shutil.ignore_patterns("checkpoints"))
    faults_config.fuzz_files(tally, 3, 0, tmp_path / "w", ("status",))
