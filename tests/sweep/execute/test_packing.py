"""Test the packing of runs: the measured number per program and machine, stored once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from scaling.config import load as config_lib
from scaling.sweep.execute import jobs, packing, packing_trial, runner
from scaling.sweep.execute.packing_trial import Cost
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.training.benchmark import Size
from scaling.utils.errors import UserError
from tests.sweep import launched


@pytest.fixture
def free(small_sweep):
    """The sweep with automatic packs and workers."""
    return config_lib.with_values(small_sweep, {"launch.pack": 0})


@pytest.fixture
def sizes(free):
    """Four runs of four sizes, which cannot be packed."""
    grid = tuple((width, 4 * width) for width in (16, 24, 32, 40))
    keys = (("model.width", "model.mlp_width"),)
    return config_lib.with_values(free, {"sweep.grid_keys": keys, "sweep.grid_values": (grid,)})


def parts_of(config):
    return jobs.job_runs(planner.plan(config), config.launch.share_trunks)


@pytest.mark.parametrize(
    ("costs", "count", "largest", "ratio"),
    [
        ([Cost(one_process=100, one_worker=120)], 2, 0.1, 0.6),
        ([Cost(one_process=10, one_worker=30), Cost(one_process=90, one_worker=80)], 2, 0.1, 0.55),
        ([Cost(one_process=100, one_worker=120)], 8, 0.5, 0.6),  # the largest run takes half of all
    ],
)
def test_workers_share_all_but_the_largest_run(costs, count, largest, ratio):
    assert packing_trial.best_case(costs, count, largest) == pytest.approx(ratio)


@pytest.mark.parametrize(("speed_of_one", "workers"), [(100.0, 2), (55.0, 1)])
def test_a_trial_decides_once_and_gives_the_cores_back(
    sizes, tmp_path, monkeypatch, capsys, speed_of_one, workers
):
    """The speeds are invented, the cores are those of a real trial."""
    monkeypatch.setattr(packing, "WORTH_MEASURING", 0.0)
    before, seen = os.sched_getaffinity(0), []
    cores = sorted(before)[:2]
    monkeypatch.setattr(packing, "visible_cores", lambda: cores)

    def measured(config, runs=1):
        seen.append((runs, os.sched_getaffinity(0), loads()))
        alone = len(seen[-1][1]) == 1
        return Size(
            width=16, depth=1, n_params=1, setup_seconds=1, step_seconds=1, mfu=1,
            tokens_per_second=speed_of_one if alone else 100.0,
            evaluation_seconds=0, checkpoint_seconds=0, checkpoint_bytes=0,
        )  # fmt: skip

    def loads():
        """Return the cores of the processes that keep the other shares busy."""
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return [os.sched_getaffinity(int(c)) for c in children]

    monkeypatch.setattr("scaling.training.benchmark.measure", measured)
    chosen = packing.choose(parts_of(sizes), tmp_path, sizes.launch, starting=True)
    assert chosen.workers == workers
    assert f"workers would take {50 / speed_of_one:.2f} of its time" in capsys.readouterr().err
    (*_, (runs, mine, others)), whole = seen, [s for s in seen if len(s[1]) > 1]
    assert (runs, mine) == (1, {cores[0]}) and {cores[1]} in others
    assert whole and all(one[1] == before for one in whole)
    assert os.sched_getaffinity(0) == before and {cores[1]} not in loads()
    seen.clear()
    assert packing.choose(parts_of(sizes), tmp_path, sizes.launch, starting=True) == chosen
    assert packing.choose(parts_of(sizes), tmp_path, sizes.launch).workers == 1
    named = config_lib.with_values(sizes, {"launch.workers": 1})
    assert packing.choose(parts_of(sizes), tmp_path, named.launch).packs == chosen.packs
    assert not seen
    if workers > 1:
        assert set(chosen.packs.values()) == {1}, "the bits of single runs, whoever trains them"


def test_a_trial_measures_real_steps(sizes, capsys):
    parts = parts_of(sizes)[:2]
    packs = {key: 1 for key, _ in jobs.groups(parts)}
    before = os.sched_getaffinity(0)
    workers = packing_trial.workers(parts, packs, sorted(before)[:2])
    workers_text = "2 workers, each on its share" if workers == 2 else "one process"
    assert capsys.readouterr().err.startswith(f"packing: {workers_text} ")
    assert os.sched_getaffinity(0) == before


def test_a_trial_that_fails_changes_nothing(sizes, monkeypatch, capsys):
    def fails(config, runs=1):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("scaling.training.benchmark.measure", fails)
    parts = parts_of(sizes)
    packs = {key: 1 for key, _ in jobs.groups(parts)}
    assert packing_trial.workers(parts, packs, [0, 1]) == 1
    assert capsys.readouterr().err == "warning: workers were not tried: out of memory\n"


def test_runs_that_share_a_program_need_no_trial(free, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "WORTH_MEASURING", 0.0)
    monkeypatch.setattr(packing_trial, "workers", None)
    assert packing.choose(parts_of(free), tmp_path, free.launch, starting=True).workers == 1


@pytest.mark.parametrize(
    ("launch", "expected"),
    [
        ({"launch.pack": 4}, (4, 1)),
        ({"launch.pack": 4, "launch.workers": 2}, (4, 2)),
        ({"launch.workers": 3}, (1, 3)),
        ({"launch.kind": "slurm"}, (1, 1)),
    ],
)
def test_numbers_of_the_config_are_not_measured(free, tmp_path, launch, expected):
    config = config_lib.with_values(free, launch)
    chosen = packing.choose(parts_of(config), tmp_path, config.launch)
    assert (chosen.packs, chosen.workers) == expected
    assert not (tmp_path / "schedule.json").exists()


@pytest.mark.slow  # test_local.py has two workers
def test_a_schedule_of_two_workers_gives_the_table_of_one_process(free, small_table, tmp_path):
    workdir = tmp_path / "w"
    sweep_json.create_or_check(free, workdir)
    (workdir / "schedule.json").write_text(json.dumps({"packs": {}, "workers": 2}))
    outcome = runner.sweep(planner.plan(free), workdir, config=free)
    assert outcome.problems == []
    assert launched.table(workdir) == small_table
    assert len(list((workdir / "logs").glob("*.log"))) == 2


def test_an_older_schedule_has_no_workers(free, tmp_path):
    (tmp_path / "schedule.json").write_text(json.dumps({"packs": {"abc": 2}}))
    chosen = packing.choose(parts_of(free), tmp_path, free.launch)
    assert chosen == packing.Packing({"abc": 2}, 1)


@pytest.mark.parametrize("content", ["[]", "{}", '{"packs": {"abc": "many"}}'])
def test_a_damaged_schedule_is_one_line(free, tmp_path, content):
    (tmp_path / "schedule.json").write_text(content)
    with pytest.raises(UserError, match=r"schedule.json: damaged .*; delete it to measure again"):
        packing.choose(parts_of(free), tmp_path, free.launch)


def test_a_schedule_of_a_larger_machine_starts_no_more_workers_than_cores(free, tmp_path):
    (tmp_path / "schedule.json").write_text(json.dumps({"packs": {}, "workers": 10_000}))
    chosen = packing.choose(parts_of(free), tmp_path, free.launch, starting=True)
    assert chosen.workers == len(os.sched_getaffinity(0))
