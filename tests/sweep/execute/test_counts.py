"""A sweep counts its planned runs against those present, and compiles each shape once."""

from __future__ import annotations

import shutil

import jax
import pytest

from scaling.config import load as config_lib
from scaling.sweep.execute import runner
from scaling.sweep.execute.worker import Worker
from scaling.sweep.launchers import launch
from scaling.sweep.plan import planner
from tests.common import STEP


@pytest.fixture
def grid(config):
    """A sweep of two short runs, one after the other."""
    return config_lib.with_values(
        config,
        {
            "train.tokens": STEP * 16,
            "sweep.kind": "grid",
            "sweep.grid_keys": ("optim.lr",),
            "sweep.grid_values": ((1e-3, 3e-3),),
            "launch.pack": 1,
        },
    )


def names(runs) -> list[str]:
    return sorted(run.run_id for run in runs)


def test_a_workdir_removed_in_mid_sweep_is_named_by_what_is_missing(grid, tmp_path, monkeypatch):
    record, runs = Worker._record, planner.plan(grid)
    recorded = []

    def remove(worker, job, outcomes):
        record(worker, job, outcomes)
        recorded.append(job)
        if len(recorded) == 2:
            shutil.rmtree(tmp_path)

    monkeypatch.setattr(Worker, "_record", remove)
    outcome = runner.sweep(runs, tmp_path)
    (problem,) = outcome.problems
    # the worker trains the second one, whose result it lost from under its eyes, again
    assert problem.startswith("1 of 2 planned runs have no result")
    assert names(recorded[0])[0] in problem and len(outcome.results) == 1


@pytest.mark.parametrize("trained", [True, False], ids=["replaced", "given up"])
def test_ends_of_workers_are_a_problem_only_if_runs_are_missing(
    grid, tmp_path, monkeypatch, caplog, trained
):
    """The launcher is replaced; the worker is a real one, in this process."""
    config = config_lib.with_values(grid, {"launch.workers": 2})
    runs = planner.plan(config)

    def launched(config, workdir, launch_id, workers, on_wait):
        if trained:
            assert not runner.work(workdir, launch_id)
        return ["worker0 was killed by SIGKILL"]

    monkeypatch.setattr(launch, "launch", launched)
    from scaling.sweep.shared import sweep_json

    sweep_json.create_or_check(config, tmp_path)
    outcome = runner.sweep(runs, tmp_path, config=config)
    assert "worker0 was killed" in caplog.text
    if trained:
        assert outcome.problems == [] and len(outcome.results) == 2
    else:
        (problem,) = outcome.problems
        assert problem.startswith("2 of 2 planned runs") and ", ".join(names(runs)) in problem


def test_a_second_sweep_of_the_same_shapes_compiles_nothing(grid, tmp_path):
    compiled = []

    def count(event: str, *args, **options):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    runner.sweep(planner.plan(grid), tmp_path / "first")
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        other = config_lib.with_values(grid, {"sweep.grid_values": ((2e-3, 4e-3),), "seed": 1})
        outcome = runner.sweep(planner.plan(other), tmp_path / "second")
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert len(outcome.results) == 2 and not outcome.problems
    assert compiled == []
    jax.monitoring.register_event_duration_secs_listener(count)
    jax.jit(lambda x: x * 3.25 + 1)(1.5)
    jax.monitoring.unregister_event_duration_listener(count)
    assert len(compiled) == 1, "the counter counts"
