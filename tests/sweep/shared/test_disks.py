"""Test full and read-only disks: a one-line error, no hang, no damage, a command that resumes."""

from __future__ import annotations

import os
import subprocess

import pytest

from scaling import cli, results
from scaling.config import load as config_lib
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.utils.errors import EXIT_BAD_INPUT
from tests.common import run_cli
from tests.sweep import launched

CONFIG = (
    "--config=tests/sweep/sixteen.py",
    "--config.sweep.seeds=(0,)",
    '--config.sweep.grid_keys=("optim.schedule","train.tokens")',
    '--config.sweep.grid_values=(("wsd","cosine"),(12288,16384))',
    "--config.optim.warmup_tokens=2048",
    "--config.launch.pack=1",
)


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that creates a file system of some KiB below `tmp_path`, or enlarges it."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(kib: int, *options: str):
        command = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={kib}k", *options)), "tmpfs"]
        done = subprocess.run([*command, str(disk)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return disk

    if os.geteuid():
        pytest.skip("only root may mount a small file system")
    yield mount
    subprocess.run(["umount", str(disk)], capture_output=True)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_full_disk_is_one_line_and_harms_nothing(small_disk, tmp_path, workers):
    config = config_lib.load(CONFIG[0].removeprefix("--config="), CONFIG[1:])
    workdir = small_disk(400) / "w"  # room for about two runs
    args = (*CONFIG, f"--config.launch.workers={workers}", f"--workdir={workdir}")
    done = run_cli("sweep", *args, timeout=120)
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    # a worker may meet the full disk first: the line of progress of its run then says so
    assert all(line.startswith(("warning: ", "error: ", "[")) for line in lines), done.stderr
    assert not results.collect(workdir)[1], "a result was torn"
    small_disk(100_000, "remount")
    again = run_cli("sweep", *args)
    assert again.returncode == 0, again.stderr
    expected = launched.numbers(runner.sweep(planner.plan(config), tmp_path / "roomy").results)
    assert launched.table(workdir) == expected


@pytest.mark.parametrize("command", ["sweep", "train"])
def test_a_workdir_that_cannot_be_written_is_one_line(tmp_path, command, capsys):
    (tmp_path / "file").write_text("")
    workdir = tmp_path / "file" / "w"
    more = () if command == "sweep" else ("--config.sweep.kind=none",)
    code = cli.main([command, *CONFIG[:1], *more, f"--workdir={workdir}"])
    error = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT
    assert error.startswith(f"error: {workdir}") and len(error.splitlines()) == 1
    assert "Not a directory" in error
    assert (tmp_path / "file").read_text() == ""


def test_a_crashing_and_a_diverging_run_leave_their_reasons_and_their_siblings(tmp_path):
    args = (*CONFIG[:2], "--config.launch.workers=2", "--config.launch.pack=1")
    args += (
        '--config.sweep.grid_keys=("optim.lr",)',
        "--config.sweep.grid_values=((1e-3,2e-3,4e-3,1e30),)",
        "--config.train.tokens=12288",
        "--config.optim.schedule=constant",
        "--config.optim.warmup_tokens=128",
    )
    config = config_lib.load(args[0].removeprefix("--config="), args[1:])
    runs, workdir = planner.plan(config), tmp_path / "w"
    crashing = next(r for r in runs if r.values["optim.lr"] == 2e-3)
    (workdir / "runs" / crashing.run_id / "metrics.jsonl").mkdir(parents=True)
    done = run_cli("sweep", *args, f"--workdir={workdir}")
    assert done.returncode == 3 and "Traceback" not in done.stderr
    rows = {r.lr: r for r in results.read_table(workdir / "runs.csv")[0]}
    assert {lr: r.status for lr, r in rows.items()} == {
        1e-3: "done", 2e-3: "failed", 4e-3: "done", 1e30: "diverged",
    }  # fmt: skip
    assert "metrics.jsonl cannot be written (Is a directory)" in rows[2e-3].reason
    assert "at step" in rows[1e30].reason
    assert rows[2e-3].reason in done.stderr and rows[1e30].reason in done.stderr
