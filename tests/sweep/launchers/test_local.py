"""Test the local launcher: the bits of one process after any kill, and no process left."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from scaling.sweep.launchers import launch as launchers
from scaling.sweep.launchers import local, process
from scaling.utils import machine
from scaling.utils.errors import UserError
from tests.sweep import launched


def metrics(workdir) -> int:
    return len(list(workdir.glob("runs/*/metrics.jsonl")))


def test_two_workers_on_their_own_cores_give_the_table_of_one_process(
    small_sweep, small_table, tmp_path, hostile_folder
):
    workdir = launched.begin(small_sweep, tmp_path / "w")
    seen, ticks = {}, []

    def watch():
        ticks.append(1)
        for pid in launched.workers_of(workdir):
            seen[pid] = os.sched_getaffinity(pid)

    assert launchers.launch(small_sweep, workdir, "launch", 2, watch) == []
    assert launched.table(workdir) == small_table
    assert len(seen) == 2 and len(ticks) > 2
    expected = local.shares(machine.visible_cores(), 2)
    assert sorted(map(sorted, seen.values())) == sorted(expected)
    assert sorted(p.name for p in (workdir / "logs").iterdir()) == [
        "launch-worker0.log",
        "launch-worker1.log",
    ]


def test_a_killed_worker_is_replaced_and_a_stopped_launcher_lets_its_workers_save(
    small_sweep, small_table, tmp_path
):
    workdir = launched.begin(small_sweep, tmp_path / "w")
    launcher = launched.start(workdir, 1)
    launched.await_(lambda: metrics(workdir), "a run to begin")
    (victim,) = launched.workers_of(workdir)
    os.kill(victim, signal.SIGKILL)
    done = len(list(workdir.glob("runs/*/result.json")))
    launched.await_(
        lambda: len(list(workdir.glob("runs/*/result.json"))) > done,
        "the next worker to finish a run",
    )
    launcher.send_signal(signal.SIGTERM)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 1 and error.strip() == "Preempted: SIGTERM"
    assert launched.workers_of(workdir) == []
    log = (workdir / "logs" / "launch-worker0.log").read_text()
    assert "stopped by SIGTERM" in log
    launched.named(workdir, "again")
    assert launchers.launch(small_sweep, workdir, "again", 2) == []
    assert launched.table(workdir) == small_table


def test_workers_of_a_killed_launcher_save_and_end(small_sweep, tmp_path):
    workdir = launched.begin(small_sweep, tmp_path / "w")
    launcher = launched.start(workdir, 2)
    launched.await_(lambda: metrics(workdir) > 1, "runs to begin")
    launcher.kill()
    launcher.communicate()
    launched.await_(lambda: not launched.workers_of(workdir), "the workers to end", seconds=30)
    log = (workdir / "logs" / "launch-worker0.log").read_text()
    assert "stopped by SIGTERM" in log


def test_a_worker_that_dies_is_named_and_given_up_in_the_end(small_sweep, tmp_path, monkeypatch):
    workdir = launched.begin(small_sweep, tmp_path / "w")
    dying = [sys.executable, "-c", "raise OSError('no such device')"]
    monkeypatch.setattr(process, "command", lambda *_: dying)
    problems = launchers.launch(small_sweep, workdir, "launch", 1)
    reason = "worker0 ended with exit code 1 (OSError: no such device)"
    assert problems == [
        *[f"{reason}; restarted"] * 4,
        f"{reason}; given up after 5 times; see {workdir}/logs/launch-worker0.log",
    ]


def test_input_that_every_worker_refuses_is_one_error(small_sweep, tmp_path):
    (tmp_path / "w").mkdir()
    with pytest.raises(UserError, match="holds no sweep"):
        launchers.launch(small_sweep, tmp_path / "w", "launch", 2)


def test_shares():
    assert local.shares([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]]
    assert local.shares([0, 1], 3) == [[0], [1], [0]]
    assert local.shares([], 2) == [[], []]


def test_gpus_are_split_or_shared_if_too_few(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-77")
    gpus = local.visible_gpus()
    assert local.gpu_env(gpus, 1, 3) == {"CUDA_VISIBLE_DEVICES": "5"}
    assert local.gpu_env(gpus, 0, 1) == {"CUDA_VISIBLE_DEVICES": "4,5,GPU-77"}
    assert local.gpu_env(gpus, 3, 4) == {
        "CUDA_VISIBLE_DEVICES": "4",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.gpu_env(local.visible_gpus(), 0, 2) == {}
