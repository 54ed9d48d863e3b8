"""Helpers for the tests of launchers: a small sweep, its table without disturbance, launches."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scaling import results
from scaling.config import load as config_lib
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from tests.common import ROOT

# columns that agree to the bit, wherever a run was trained
COLUMNS = ("run_id", "status", "loss", "loss_se", "bits_per_byte", "train_loss", "tokens", "lr")

SLOT = "scaling.sweep.launchers.slot"  # starts a worker, and is none

LAUNCH = (
    "import json, pathlib, sys\n"
    "from scaling.config import load as config_lib\n"
    "from scaling.sweep.launchers import launch as launchers\n"
    "from scaling.utils.errors import Preempted, UserError\n"
    "workdir = pathlib.Path(sys.argv[1])\n"
    "config = config_lib.from_json(json.loads((workdir / 'sweep.json').read_text()))\n"
    "try:\n"
    "    print(*launchers.launch(config, workdir, sys.argv[2], int(sys.argv[3])), sep='\\n')\n"
    "except (Preempted, UserError) as error:\n"
    "    sys.exit(f'{type(error).__name__}: {error}')\n"
)


def workers_of(workdir: Path) -> list[int]:
    """Return the process ids of the workers on this workdir.

    A child of a worker carries its command line until it becomes git, so children do not count.
    """
    parents = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode().split("\0")
            if "work" in words and f"--workdir={workdir}" in words and SLOT not in words:
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                parents[int(process.name)] = int(stat[1])
    return sorted(pid for pid, parent in parents.items() if parent not in parents)


def numbers(rows: list[results.RunResult]) -> list[list]:
    return sorted([getattr(row, column) for column in COLUMNS] for row in rows)


def begin(config, workdir: Path, **values) -> Path:
    """Return the workdir of a planned sweep with a launch named "launch" and no trained run."""
    workdir.mkdir()
    config = config_lib.with_values(config, {f"launch.{key}": v for key, v in values.items()})
    sweep_json.create_or_check(config, workdir)
    named(workdir, "launch")
    return workdir


def named(workdir: Path, launch_id: str) -> None:
    """Write a launch of that name, as `runner.begin` does."""
    (workdir / "launches").mkdir(exist_ok=True)
    shutil.copy(workdir / "sweep.json", workdir / "launches" / f"{launch_id}.json")


def table(workdir: Path) -> list[list]:
    problems: list[str] = []
    rows = runner.write_table(workdir, problems)
    assert not problems
    return numbers(rows)


def reference(config, workdir: Path) -> list[list]:
    """Return the table of the same sweep, run in this process."""
    return numbers(runner.sweep(planner.plan(config), workdir).results)


def start(workdir: Path, workers: int, launch_id: str = "launch") -> subprocess.Popen:
    """Start a launcher in another process."""
    named(workdir, launch_id)
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(workdir), launch_id, str(workers)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def await_(condition, what: str, seconds: float = 90):
    """Wait until `condition()` is true; return its value."""
    deadline = time.time() + seconds
    while time.time() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s for {what}")
