"""Test the Slurm launcher on a real Slurm of one node: equal bits, requeued jobs, new launchers."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from scaling.config import load as config_lib
from scaling.sweep.launchers import launch as launchers
from scaling.utils.errors import UserError
from tests.sweep import launched


def jobs() -> list[str]:
    """Return the ids of the jobs in the queue."""
    done = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def start_now(job: str) -> None:
    """Start a requeued job after two seconds, where Slurm by itself waits two minutes.

    The wait is needed: a node refuses a job ("credential revoked") that returns within the second
    of its stop.
    """
    shown = ["squeue", "-h", "-j", job, "-o", "%T %r"]

    def waits():
        return (
            "BeginTime" in subprocess.run(shown, capture_output=True, text=True, check=True).stdout
        )

    launched.await_(waits, f"job {job} to be requeued")
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now+2"], check=True)


def dispatches(workdir) -> int:
    return sum(len(p.read_text().splitlines()) for p in workdir.glob("runs/*/metrics.jsonl"))


def test_an_array_gives_the_table_of_one_process_and_waits_for_no_job_without_work(
    slurm, small_sweep, small_table, tmp_path, capfd, hostile_folder
):
    config = config_lib.with_values(small_sweep, {"launch.kind": "slurm", "launch.minutes": 5})
    workdir = launched.begin(config, tmp_path / "array")
    ticks = []
    assert launchers.launch(config, workdir, "launch", 4, lambda: ticks.append(1)) == []
    assert launched.table(workdir) == small_table
    assert 2 <= len(list((workdir / "logs").glob("launch-slurm*_[0-3].log"))) <= 4
    assert "2 RUNNING" in capfd.readouterr().err
    assert ticks and not jobs()


@pytest.mark.slow  # the test of time limits requeues a job, too
def test_a_requeued_job_resumes_and_its_launcher_may_stop_and_restart(
    slurm, small_sweep, small_table, tmp_path, capfd
):
    config = config_lib.with_values(small_sweep, {"launch.kind": "slurm", "launch.minutes": 5})
    workdir = launched.begin(config, tmp_path / "requeued", kind="slurm", minutes=5)
    launcher = launched.start(workdir, 1)
    launched.await_(lambda: dispatches(workdir) > 4, "a run to begin")
    (job,) = jobs()
    subprocess.run(["scontrol", "requeue", job], check=True)
    launcher.send_signal(signal.SIGTERM)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 1
    assert f"Preempted: SIGTERM; Slurm keeps {job} running" in error
    assert jobs() == [job]
    start_now(job)
    assert launchers.launch(config, workdir, "again", 1) == []
    assert launched.table(workdir) == small_table
    assert f"slurm: found {job} in the queue" in capfd.readouterr().err
    (log,) = (workdir / "logs").iterdir()
    assert "stopped by SIGTERM" in log.read_text()
    assert len(list(workdir.glob("slurm/*_submitted.pkl"))) == 1, (
        "the second launcher submitted too"
    )


def test_a_job_near_its_time_limit_saves_and_is_requeued(slurm, small_sweep, small_table, tmp_path):
    """`scancel --signal=USR2` is the signal that Slurm sends before the limit."""
    config = config_lib.with_values(small_sweep, {"launch.kind": "slurm", "launch.minutes": 5})
    workdir = launched.begin(config, tmp_path / "limit", kind="slurm", minutes=5)
    launcher = launched.start(workdir, 1)
    launched.await_(lambda: dispatches(workdir) > 4, "a run to begin")
    (job,) = jobs()
    subprocess.run(["scancel", "--signal=USR2", job], check=True)
    start_now(job)
    output, error = launcher.communicate(timeout=120)
    assert launcher.returncode == 0 and output.strip() == "", error
    assert launched.table(workdir) == small_table
    log = (workdir / "logs" / f"launch-slurm{job}.log").read_text()
    assert "stopped by SIGTERM" in log


def test_a_cancelled_job_is_reported(slurm, small_sweep, tmp_path):
    config = config_lib.with_values(small_sweep, {"launch.kind": "slurm", "launch.minutes": 5})
    workdir = launched.begin(config, tmp_path / "cancelled", kind="slurm", minutes=5)
    launcher = launched.start(workdir, 1)
    (job,) = launched.await_(jobs, "the job")
    subprocess.run(["scancel", job], check=True)
    output, _ = launcher.communicate(timeout=60)
    assert output.startswith(f"Slurm job {job} was cancelled or killed")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"partition": "nowhere"}, "Slurm refused the jobs .*[Ii]nvalid partition"),
        ({"nodes": 9}, "Slurm can never start the jobs .PartitionConfig."),
    ],
)
def test_impossible_jobs_are_one_line(slurm, small_sweep, tmp_path, values, message):
    keys = {f"launch.{key}": value for key, value in {"kind": "slurm", **values}.items()}
    with pytest.raises(UserError, match=message) as caught:
        launchers.launch(config_lib.with_values(small_sweep, keys), tmp_path / "w", "launch", 1)
    assert "\n" not in str(caught.value)


def test_missing_sbatch_is_one_line(small_sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    config = config_lib.with_values(small_sweep, {"launch.kind": "slurm"})
    with pytest.raises(UserError, match="this machine has no `sbatch`"):
        launchers.launch(config, tmp_path, "launch", 1)


def test_missing_submitit_is_one_line(small_sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setitem(sys.modules, "submitit", None)
    config = config_lib.with_values(small_sweep, {"launch.kind": "slurm"})
    with pytest.raises(
        UserError, match=r"needs the package submitit; pip install 'scaling\[slurm\]'"
    ):
        launchers.launch(config, tmp_path, "launch", 1)
