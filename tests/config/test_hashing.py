"""Names of runs and sweeps never move: hashes are pinned to those of commit edea69d.

hashes.csv holds, by study and overrides, the hashes of its config, the number of planned runs, a
digest of their names, and how many programs train them.
"""

from __future__ import annotations

import csv
import json

import pytest

from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.config.keys import KEYS
from scaling.programs import train_step
from scaling.sweep.plan import planner
from tests.common import ROOT

with open(ROOT / "tests" / "config" / "hashes.csv", newline="") as file:
    PINNED = list(csv.DictReader(file))


@pytest.mark.parametrize("pinned", PINNED, ids=lambda p: f"{p['study']} {p['overrides']}".strip())
def test_names_stay(pinned):
    overrides = [f"--config.{override}" for override in pinned["overrides"].split()]
    config = config_lib.load(f"{ROOT}/{pinned['study']}", overrides)
    runs = [planner.plan_run(config)] if config.sweep.kind == "none" else planner.plan(config)
    assert {
        "run_hash": hashing.run_hash(config),
        "sweep_hash": hashing.sweep_hash(config),
        "runs": str(len(runs)),
        "run_ids": hashing.digest("\n".join(run.run_id for run in runs), 10),
        "programs": str(len({train_step.program_key(run.values) for run in runs})),
    }.items() <= pinned.items()


def test_names_of_runs_stay():
    runs = planner.plan(config_lib.load(f"{ROOT}/configs/python_text.py"))
    assert [run.run_id for run in runs][:3] == [
        "d8-l2-t6.2e05-lr0.046-s0-8be0664fdd",
        "d8-l2-t1.98e06-lr0.046-s0-9a274dde5e",
        "d16-l2-t2.6e05-lr0.027-s0-da0efe0b39",
    ]
    assert runs[-1].run_id == "d64-l2-t1.06e06-lr0.0088-s0-0831158fbb"
    assert len({run.run_id for run in runs}) == 24


def test_a_config_of_the_first_schema_is_read_and_written_back_unchanged():
    stored = json.loads((ROOT / "tests" / "sweep" / "shared" / "sweep_schema_1.json").read_text())
    written = config_lib.to_json(config_lib.from_json(stored))
    for section, values in stored.items():
        if isinstance(values, dict):
            values = {key: written[section][key] for key in values}
            assert json.dumps(values) == json.dumps(stored[section])
        else:
            assert written[section] == values


def test_later_keys_are_those_that_the_first_schema_lacks():
    stored = json.loads((ROOT / "tests" / "sweep" / "shared" / "sweep_schema_1.json").read_text())
    first = {
        f"{section}.{key}" if isinstance(values, dict) else section
        for section, values in stored.items()
        for key in (values if isinstance(values, dict) else "x")
    }
    assert {name for name, key in KEYS.items() if key.since == 1} == first


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        ("nothing", {"parallel.cpu_devices": 1, "checkpoint.keep": 5, "launch.pack": 4}),
        ("nothing", {"data.path": "/elsewhere", "data.cache_dir": "/tmp", "laws.bootstrap": 9}),
        ("sweep", {"name": "other", "train.accumulate": 2, "model.loss_chunk": 64}),
        ("sweep", {"sweep.seeds": (0, 1), "model.remat": "block"}),
        ("run", {"optim.lr": 1e-4}),
        ("run", {"seed": 1}),
        ("run", {"data.unique_tokens": 65_536}),
        ("run", {"eval.every_tokens": 65_536}),
    ],
)
def test_a_change_renames_what_its_keys_state(names, changes):
    assert {KEYS[name].names for name in changes} == {names}
    config = config_lib.load("configs/base.py")
    changed = config_lib.with_values(config, changes)
    run = hashing.run_hash(config) != hashing.run_hash(changed)
    sweep = hashing.sweep_hash(config) != hashing.sweep_hash(changed)
    assert (run, sweep) == (names == "run", names in ("run", "sweep"))


def test_a_merged_run_is_renamed_by_its_logged_steps():
    merging = {"optim.schedule": "wsd", "optim.cooldown": "merge", "optim.merge_checkpoints": 2}
    config = config_lib.load("configs/base.py")
    for values, renamed in (({}, False), (merging, True)):
        one = config_lib.with_values(config, values)
        other = config_lib.with_values(one, {"train.log_every": 4})
        assert (hashing.run_hash(one) != hashing.run_hash(other)) is renamed


def test_later_keys_name_a_run_only_where_they_differ_from_their_default():
    config = config_lib.load("configs/base.py")
    flat = config_lib.flatten(config)
    older = {key: value for key, value in flat.items() if key not in hashing.LATER}
    assert len(hashing.LATER) > 30 and hashing.run_hash(older) == hashing.run_hash(config)
    changed = config_lib.with_values(config, {"model.window": 9})
    assert hashing.run_hash(changed) != hashing.run_hash(config)


def test_programs_are_shared_by_runs_that_differ_in_no_key_of_theirs():
    config = config_lib.load("configs/base.py")
    key = train_step.program_key(config)
    for values, same in (
        ({"optim.lr": 1e-4, "seed": 3, "train.tokens": 2_000_000, "eval.tokens": 9}, True),
        ({"model.width": 32}, False),
        ({"model.loss_chunk": None}, False),
        ({"parallel.device_memory_gb": 80.0}, False),
        ({"optim.clip": 2.0}, False),
    ):
        assert (train_step.program_key(config_lib.with_values(config, values)) == key) is same
