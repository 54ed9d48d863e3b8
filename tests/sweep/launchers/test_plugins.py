"""Workers find the plugins of a config in a folder outside the repository."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.common import ROOT, STEP, TINY, flags
from tests.test_examples import VALUES, copied

SWEEP = {
    **{key: value for key, value in {**TINY, **VALUES}.items() if key != "sweep.kind"},
    "sweep.kind": "grid",
    "sweep.grid_keys": ("optim.lr",),
    "sweep.grid_values": ((1e-3, 2e-3),),
    "train.tokens": STEP * 64,
    "launch.workers": 2,
    "launch.pack": 1,
}


def scaling(folder, *args: str) -> subprocess.CompletedProcess:
    """Run a command in a folder, which is not on PYTHONPATH."""
    env = {"PYTHONPATH": str(ROOT)}
    code = f"import os, runpy; os.environ.update({env!r}); runpy.run_module('scaling', alter_sys=1)"
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[0] = {str(ROOT)!r}; {code}", *args],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.slow  # each starts two workers, which compile
@pytest.mark.parametrize("kind", ["local", "slurm"])
def test_two_workers_train_with_plugins(kind, request, tmp_path):
    values = {**SWEEP, "launch.kind": kind}
    if kind == "slurm":
        request.getfixturevalue("slurm")
        values["launch.minutes"] = 5
    folder, workdir = copied(tmp_path / "plugins"), tmp_path / "w"
    done = scaling(folder, "sweep", "--config=mini", f"--workdir={workdir}", *flags(values))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(path.read_text()) for path in workdir.glob("runs/*/result.json")]
    assert [row["status"] for row in rows] == ["done", "done"]
    assert len(list((workdir / "logs").iterdir())) == 2
    # another folder: sweep.json says where the plugins are
    status = scaling("/", "status", f"--workdir={workdir}")
    assert status.returncode == 0 and "2 done" in status.stdout, status.stderr
    for file in folder.glob("*.py"):
        file.unlink()
    status = scaling("/", "status", f"--workdir={workdir}")
    assert status.returncode == 2 and status.stderr.count("\n") == 1
    assert f"looked in PYTHONPATH, {folder}" in status.stderr
