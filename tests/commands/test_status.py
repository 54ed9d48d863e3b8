"""`scaling status` of a study; more in tests/sweep/execute/test_progress.py."""

from __future__ import annotations

import csv
import io
import os
import shutil

import pytest

from scaling.utils.errors import EXIT_INCOMPLETE
from tests.commands.common import assert_refused, call

BAD = {
    "status": "--workdir is missing",
    "status --workdir=nowhere --watch=soon": "--watch=soon: not a number of seconds",
    "status --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "status --workdir=nowhere --config=configs/mini.py": "--workdir=nowhere holds no sweep",
    "status --workdir=W --config.seed=1":
        "--config.seed=1: `scaling status` reads the workdir's own config here; give --config",
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


def test_status_counts_runs_and_compute(capsys, mini, tmp_path):
    code, out, _ = call(capsys, "status", f"--workdir={mini}")
    assert code == 0 and "18 done" in out and "(100%)" in out
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    folders = sorted((workdir / "runs").iterdir())
    shutil.rmtree(folders[0])
    (folders[1] / "result.json").unlink()
    for path in folders[1].iterdir():
        os.utime(path, (1e9, 1e9))
    (folders[2] / "result.json").write_text("{")
    code, out, err = call(capsys, "status", f"--workdir={workdir}")
    assert code == EXIT_INCOMPLETE and str(folders[2]) in err
    assert "paused" in out and "waiting" in out and "15 done" in out

    code, out, _ = call(capsys, "status", f"--workdir={workdir}", "--format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    states = sorted(row["state"] for row in rows if row["role"] == "sweep")
    assert states == ["done"] * 15 + ["failed", "paused", "waiting"]
    (held_out,) = (row for row in rows if row["role"] == "holdout")
    assert held_out["state"] == "done" and float(held_out["loss"]) > 0


def test_a_config_of_another_study_is_refused(capsys, mini):
    line = f"status --workdir={mini} --config=configs/mini.py --config.seed=3"
    assert_refused(capsys, line, "belongs to another sweep")
