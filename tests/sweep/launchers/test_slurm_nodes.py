"""Test runs over two nodes of a real Slurm (two slurmd on one machine), joined by its variables."""

from __future__ import annotations

import subprocess

import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.sweep.launchers import launch as launchers
from scaling.utils.errors import UserError
from tests.sweep import launched


@pytest.mark.slow  # a minute and a half, most of it JAX's heartbeats
def test_two_nodes_train_each_run_together_and_outlive_a_death(
    slurm, small_sweep, small_table, tmp_path
):
    config = config_lib.with_values(small_sweep, {"parallel.cpu_devices": 1})
    options = {"kind": "slurm", "minutes": 10, "nodes": 2, "partition": "pair"}
    workdir = launched.begin(
        config, tmp_path / "nodes", **options, stale_seconds=2.0, heartbeat_seconds=0.5
    )
    launcher = launched.start(workdir, 1)

    def second() -> list[str]:
        """Return the ids of the worker processes of the second node."""
        (log,) = workdir.glob("logs/*-node1.log")
        command = f"scaling work --workdir={workdir}"
        pids = subprocess.run(["pgrep", "-f", command], capture_output=True, text=True).stdout
        return [pid for pid in pids.split() if _log_of(pid) == str(log)]

    launched.await_(lambda: list(workdir.glob("runs/*/checkpoints/[0-9]*")), "a checkpoint")
    (pid,) = second()
    subprocess.run(["kill", "-KILL", pid], check=True)
    output, error = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, error
    assert (
        "another process of this run has ended" in output
    )  # process 0 was restarted, and reports why
    rows = sorted(results.collect(workdir)[0], key=lambda row: row.run_id)
    assert [row.status for row in rows] == ["done"] * 4
    expected = {row[0]: row[launched.COLUMNS.index("loss")] for row in small_table}
    assert {row.run_id: row.loss for row in rows} == pytest.approx(expected, rel=1e-4)
    assert all("2 x" in row.device for row in rows)


def _log_of(pid: str) -> str:
    return subprocess.run(
        ["readlink", f"/proc/{pid}/fd/1"], capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_other_launchers_refuse_runs_over_nodes(small_sweep, tmp_path, kind):
    config = config_lib.with_values(small_sweep, {"launch.kind": kind, "launch.nodes": 2})
    with pytest.raises(
        UserError, match=f"launch.nodes=2: config.launch.kind={kind} cannot start"
    ) as caught:
        launchers.launch(config, tmp_path, "launch", 1)
    assert "\n" not in str(caught.value)
