"""Merged cooldowns: averages, shared trunks with equal bits, names of old runs."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.programs import train_step
from scaling.sweep.execute import jobs, runner
from scaling.sweep.plan import planner
from scaling.training import loop, merge
from scaling.training.checkpoint import Checkpoints
from scaling.training.spec import RunSpec
from scaling.utils import files
from scaling.utils.errors import UserError
from tests.common import ROOT, STEP

EXACT = ("loss", "loss_se", "bits_per_byte", "train_loss", "tokens", "schedule", "decay_tokens")
MERGE = {
    "optim.schedule": "wsd",
    "optim.warmup_tokens": STEP * 4,
    "optim.decay_fraction": 0.5,
    "optim.cooldown": "merge",
    "optim.merge_checkpoints": 4,
}


@pytest.fixture
def merging(config):
    """A run of 40 steps that averages steps 20, 28, 32 and 40."""
    return config_lib.with_values(config, MERGE)


def params(folder, config, at):
    """The leaves of one checkpoint's parameters, on the host."""
    with Checkpoints(folder, keep=None) as checkpoints:
        state, position = checkpoints.restore(train_step.programs(config).state_like, at_most=at)
    assert position["step"] == at
    return [np.asarray(x) for x in jax.tree.leaves(state["params"])]


@pytest.mark.parametrize(("kind", "final"), [("uniform", 0.0), ("decay", 0.0), ("decay", 0.25)])
def test_weights_give_updates_the_decay_that_they_stand_for(kind, final):
    c = merge.weights(kind, 5, final)
    assert sum(c) == pytest.approx(1) and min(c) > 0
    w = np.cumsum(c[::-1])[::-1][1:]  # of the updates in the four intervals
    if kind == "uniform":
        np.testing.assert_allclose(w, [0.8, 0.6, 0.4, 0.2])
    else:
        np.testing.assert_allclose(w, 1 - (1 - final) * np.array([1, 3, 5, 7]) / 8)


@pytest.mark.parametrize("kind", ["uniform", "decay"])
def test_merged_parameters_are_the_average_to_the_bit(tmp_path, merging, kind):
    merging = config_lib.with_values(merging, {"optim.merge_weights": kind, "optim.final_lr": 0.1})
    assert config_lib.merge_steps(merging) == (20, 28, 32, 40)
    result = loop.train_run(merging, tmp_path / "run")
    by = merge.weights(kind, 4, 0.1)
    kept = [params(tmp_path / "run" / "checkpoints", merging, at) for at in (20, 28, 32, 40)]
    merged = params(tmp_path / "run" / "merged", merging, 40)
    for i, leaf in enumerate(merged):
        expected = np.float32(by[0]) * kept[0][i]
        for weight, one in zip(by[1:], kept[1:], strict=True):
            expected = expected + np.float32(weight) * one[i]
        np.testing.assert_array_equal(leaf, expected)
        assert leaf.dtype == expected.dtype == np.float32
    # and it is what was evaluated: the loss of the last step's parameters is another
    rows = files.read_lines(tmp_path / "run" / "metrics.jsonl", "step")
    np.testing.assert_array_equal([r["lr"] for r in rows], np.float32(merging.optim.lr))
    constant = {"optim.schedule": "constant", "optim.cooldown": "decay"}
    last = loop.train_run(config_lib.with_values(merging, constant), tmp_path / "constant")
    assert last.train_loss == result.train_loss and last.loss != result.loss
    assert result.schedule == "wsd-merge" and result.decay_tokens == STEP * 20


def test_a_merge_of_a_trunk_equals_the_same_run_alone_and_trains_nothing(tmp_path, merging):
    """Trunk of 40 steps; the run of 23 averages its steps 12 to 23, one of 30 decays instead."""
    short = config_lib.with_values(
        merging, {"train.tokens": STEP * 23, "optim.merge_checkpoints": 3}
    )
    decaying = config_lib.with_values(
        merging, {"train.tokens": STEP * 30, "optim.cooldown": "decay"}
    )
    planned = [planner.plan_run(c) for c in (short, decaying, merging)]
    of = {part.run_id: part for part in jobs.job_runs(planned, share_trunks=True)}
    part, decay, trunk = (of[r.run_id] for r in planned)
    assert part.trunk == decay.trunk == trunk.run_id and part.steps == 0 == part.flops
    assert part.fork_step == 23 and decay.fork_step == 12
    assert trunk.keep_steps == (12, 16, 23)
    runs = runner.sweep(planned, tmp_path / "shared")
    assert not runs.problems
    shared = {r.run_id: r for r in runs.results}
    for run in planned:
        alone = loop.train_run(run.config, tmp_path / "alone" / run.run_id)
        assert [getattr(shared[run.run_id], k) for k in EXACT] == [getattr(alone, k) for k in EXACT]
    merged = shared[part.run_id]
    assert merged.trunk == trunk.run_id and merged.flops_spent == 0 and merged.tokens == STEP * 23


def test_a_run_killed_before_its_merge_ends_with_the_same_bits(tmp_path, merging):
    whole = loop.train_run(merging, tmp_path / "whole")
    spec = RunSpec(merging, tmp_path / "killed", until=28)
    assert loop.train_runs([spec]) == [None]
    again = loop.train_run(merging, tmp_path / "killed")
    (tmp_path / "killed" / "result.json").unlink()  # a kill between the merge and the result
    third = loop.train_run(merging, tmp_path / "killed")
    for result in (again, third):
        assert [getattr(result, k) for k in EXACT] == [getattr(whole, k) for k in EXACT]


def test_a_trunk_that_lacks_a_checkpoint_is_left_before_it(tmp_path, merging):
    """The trunk did not keep them: the run trains from its last checkpoint that it can use."""
    short = config_lib.with_values(merging, {"train.tokens": STEP * 36})
    assert config_lib.merge_steps(short) == (16, 24, 32, 36)
    loop.train_run(merging, tmp_path / "trunk", keep_steps=(16,))
    forked = loop.train_run(short, tmp_path / "forked", trunk=tmp_path / "trunk", fork_step=36)
    alone = loop.train_run(short, tmp_path / "alone")
    assert [getattr(forked, k) for k in EXACT] == [getattr(alone, k) for k in EXACT]
    assert forked.flops_spent == pytest.approx(forked.flops_exact * (36 - 20) / 36)


def test_a_missing_checkpoint_is_named(tmp_path, merging):
    loop.train_run(merging, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "28")
    with pytest.raises(
        UserError, match="has no intact checkpoint of step 28, one of those to merge"
    ):
        loop.train_run(merging, tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optim.schedule": "cosine"},
         "replaces the decay of config.optim.schedule='wsd'; 'cosine' has none"),
        ({"optim.schedule": "constant"}, "'constant' has none"),
        ({"optim.merge_checkpoints": 1}, "give at least 2"),
        ({"optim.merge_checkpoints": 20}, "the last 20 of 40 steps"),
        ({"optim.decay_fraction": 0.0}, "the last 0 of 40 steps"),
        ({"optim.merge_weights": "cubic"}, "choose one of uniform, decay"),
    ],
)  # fmt: skip
def test_merges_that_cannot_be_are_refused_in_one_line(config, values, said):
    with pytest.raises(UserError) as error:
        config_lib.with_values(config, {**MERGE, **values})
    assert said in str(error.value) and "\n" not in str(error.value)
    swept = {"sweep.kind": "data", "sweep.tokens": (STEP * 40,)}
    with pytest.raises(UserError) as error:
        planner.plan(config_lib.with_values(config, {**MERGE, **values, **swept}))
    assert said in str(error.value)


def test_younger_keys_rename_only_the_runs_that_use_them(config):
    variants = (
        {"optim.cooldown": "decay", "optim.merge_checkpoints": 8},
        {},
        {"optim.merge_checkpoints": 3},
        {"optim.merge_weights": "decay"},
    )
    names = {config_lib.run_id(config_lib.with_values(config, {**MERGE, **v})) for v in variants}
    assert len(names) == len(variants)
    published = {r.run_id for r in planner.plan(config_lib.load("configs/python_text.py"))}
    older = ROOT / "tests" / "sweep" / "shared" / "sweep_schema_1.json"
    stored = json.loads(older.read_text())
    assert {r.run_id for r in planner.plan(config_lib.from_json(stored))} == published
