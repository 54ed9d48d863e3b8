"""Test the Ray launcher on a real local cluster: equal bits, and workers that save when stopped."""

from __future__ import annotations

import signal
import sys

import pytest

from scaling.config import load as config_lib
from scaling.sweep.launchers import launch as launchers
from scaling.utils.errors import UserError
from tests.sweep import launched


def test_two_tasks_give_the_table_of_one_process(
    ray_installed, small_sweep, small_table, tmp_path, hostile_folder
):
    workdir = launched.begin(small_sweep, tmp_path / "w", kind="ray")
    before = signal.getsignal(signal.SIGTERM)
    config = config_lib.with_values(small_sweep, {"launch.kind": "ray"})
    assert launchers.launch(config, workdir, "launch", 2) == []
    assert signal.getsignal(signal.SIGTERM) is before
    assert launched.table(workdir) == small_table
    assert sorted(p.name for p in (workdir / "logs").iterdir()) == [
        "launch-ray0.log",
        "launch-ray1.log",
    ]


@pytest.mark.slow  # so does test_local.py for processes
def test_a_stopped_launcher_lets_its_tasks_save(ray_installed, small_sweep, tmp_path):
    long = config_lib.with_values(small_sweep, {"train.tokens": 32 * 4 * 8000})
    workdir = launched.begin(long, tmp_path / "w", kind="ray")
    launcher = launched.start(workdir, 1)
    launched.await_(lambda: list(workdir.glob("runs/*/metrics.jsonl")), "a run to begin")
    launcher.send_signal(signal.SIGTERM)
    _, error = launcher.communicate(timeout=60)
    assert error.strip().endswith("Preempted: SIGTERM")
    assert "stopped by SIGTERM" in (workdir / "logs" / "launch-ray0.log").read_text()
    assert list(workdir.glob("runs/*/checkpoints/[0-9]*"))


def test_resources_that_no_machine_has_are_one_line(ray_installed, small_sweep, tmp_path):
    config = config_lib.with_values(
        small_sweep, {"launch.kind": "ray", "launch.resources": (("TPU", 4),)}
    )
    with pytest.raises(
        UserError, match=r"launch\.resources: a worker requests 4 TPU, and no machine"
    ):
        launchers.launch(config, tmp_path, "launch", 1)


def test_no_cluster_at_the_address_is_one_line(ray_installed, small_sweep, tmp_path):
    config = config_lib.with_values(
        small_sweep, {"launch.kind": "ray", "launch.address": "nonsense:x"}
    )
    with pytest.raises(UserError, match=r"launch\.address='nonsense:x': no Ray cluster") as caught:
        launchers.launch(config, tmp_path, "launch", 1)
    assert "\n" not in str(caught.value)


def test_missing_ray_is_one_line(small_sweep, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    config = config_lib.with_values(small_sweep, {"launch.kind": "ray"})
    with pytest.raises(UserError, match=r"needs the package ray; pip install 'scaling\[ray\]'"):
        launchers.launch(config, tmp_path, "launch", 1)
