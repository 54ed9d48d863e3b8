"""Test that nothing is lost by SIGKILL, by two launchers at once, or by a suspended worker."""

from __future__ import annotations

import dataclasses
import os
import signal

import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.sweep.execute import jobs, runner
from scaling.sweep.plan import planner
from tests.common import STEP, run_cli
from tests.sweep import killing, launched

CONFIG = "--config=tests/sweep/sixteen.py"
TIMES = {"wall_time", "tokens_per_second", "mfu"}


def table(workdir) -> list[dict]:
    """Return all columns except those that measure time."""
    rows, damaged = results.read_table(workdir / "runs.csv")
    assert not damaged
    columns = set(results.FIELDS) - TIMES
    return [{k: v for k, v in dataclasses.asdict(r).items() if k in columns} for r in rows]


def undisturbed(tmp_path_factory, *args):
    workdir = tmp_path_factory.mktemp("undisturbed") / "w"
    done = run_cli("sweep", CONFIG, f"--workdir={workdir}", "--config.launch.workers=2", *args)
    assert done.returncode == 0, done.stderr
    return table(workdir)


@pytest.fixture(scope="module")
def expected(tmp_path_factory, cache):
    return undisturbed(tmp_path_factory)


def forks() -> dict[str, int]:
    config = config_lib.load("tests/sweep/sixteen.py")
    return {p.run.run_id: p.fork_step for p in jobs.job_runs(planner.plan(config), True)}


def survive(workdir, seed: int, kills: int, *args: str) -> killing.Killer:
    """Kill, then finish the sweep; check that each run resumed from its checkpoint at death."""
    args = (CONFIG, "--config.launch.workers=2", *args)
    killer = killing.Killer(workdir, list(args), seed, forks(), kills)
    killer.run()
    assert killer.done == kills and killer.in_training >= kills // 4, "the kills came too late"
    if killing.results(workdir) < 16:  # a launch gives up a run that never progressed
        done = run_cli("sweep", f"--workdir={workdir}", *args)
        assert done.returncode == 0, done.stderr
    assert killing.results(workdir) == 16
    for run in workdir.glob("runs/*"):
        begun, left = killing.begins(killing.rows(run)), killer.met.get(run.name, [])
        assert len(begun) <= len(left) and set(begun) <= set(left), run.name
    return killer


@pytest.mark.slow  # test_runner.py kills whole studies, other tests here single workers
def test_twenty_kills_lose_nothing(expected, tmp_path):
    killer = survive(tmp_path / "w", 3, 20)
    assert killer.launchers >= 2
    assert any(step for steps in killer.met.values() for step in steps)
    assert table(tmp_path / "w") == expected


@pytest.mark.slow
def test_kills_of_packs_lose_nothing(tmp_path_factory, tmp_path):
    expected = undisturbed(tmp_path_factory, "--config.launch.pack=2")
    assert {row["packed"] for row in expected} == {2}
    survive(tmp_path / "w", 5, 12, "--config.launch.pack=2")
    assert table(tmp_path / "w") == expected


@pytest.mark.slow  # test_claims.py has the claims, one by one
def test_two_launchers_train_no_run_twice(expected, tmp_path):
    workdir = tmp_path / "w"
    both = [
        killing.command(workdir, CONFIG, f"--config.launch.workers={n}", "--config.launch.pack=1")
        for n in (2, 1)
    ]
    for launcher in both:
        _, error = launcher.communicate(timeout=240)
        assert launcher.returncode == 0, error
    for run in workdir.glob("runs/*"):
        steps = killing.rows(run)
        assert steps == sorted(set(steps)), run.name
    assert table(workdir) == expected


def test_a_suspended_worker_is_replaced_and_writes_nothing_more(tmp_path, cache):
    four = f'--config.sweep.grid_values=(("wsd","cosine"),({STEP * 288},{STEP * 384}),(0,))'
    undisturbed, workdir = tmp_path / "undisturbed", tmp_path / "w"
    runner.sweep(planner.plan(config_lib.load("tests/sweep/sixteen.py", [four])), undisturbed)
    expected = table(undisturbed)
    quick = ("--config.launch.heartbeat_seconds=0.3", "--config.launch.stale_seconds=1.5")
    launcher = killing.command(workdir, CONFIG, four, "--config.launch.workers=2", *quick)
    killer = killing.Killer(workdir, [], 0, forks())
    stopped = launched.await_(lambda: killer.training(), "a run to begin")
    pid, (run, *_) = next(iter(stopped.items()))
    os.kill(pid, signal.SIGSTOP)
    try:
        launched.await_(lambda: killing.results(workdir) == 4, "the other worker to do all")
        assert (run / "result.json").exists()
        before = (run / "metrics.jsonl").read_bytes(), (run / "result.json").read_bytes()
    finally:
        os.kill(pid, signal.SIGCONT)
    _, error = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, error
    assert before == ((run / "metrics.jsonl").read_bytes(), (run / "result.json").read_bytes())
    assert table(workdir) == expected
