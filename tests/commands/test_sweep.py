"""`scaling sweep` and `scaling work`: bad input and results; what they train see tests/sweep."""

from __future__ import annotations

import json
import shutil

import pytest

from scaling.utils.errors import EXIT_BAD_INPUT
from tests.commands.common import assert_refused, call
from tests.common import ROOT

MINI = "sweep --config=configs/mini.py --workdir=nowhere"
BAD = {
    "sweep --config=configs/mini.py": "--workdir is missing",
    f"{MINI} --budget=lots": "--budget=lots: no amount; give --flops=1e15, --time=2h",
    f"{MINI} --budget=20usd": "--budget=20usd: config.launch.price_per_device_hour is",
    f"{MINI} --usd=20": "--usd=20: config.launch.price_per_device_hour is",
    f"{MINI} --cost=20": "--usd=20: config.launch.price_per_device_hour is",
    f"{MINI} --budget=1e10": "--budget=1e10: 18 of 18 runs are left; together they need",
    f"{MINI} --flops=1e10": "--flops=1e+10: 18 of 18 runs are left; together they need",
    f"{MINI} --process=few": "--process: 'few' is not a whole number: 1000000, 1_000_000, 1e6",
    f"{MINI} --print_commands=perhaps": "'perhaps' is not true, false, yes, no, 1 or 0",
    "work --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "work --workdir=W --config.seed=1": "--config.seed=1: `scaling work` reads no config here",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, monkeypatch, tmp_path, line, words):
    monkeypatch.chdir(tmp_path)  # a limit opens the workdir first
    assert_refused(capsys, line.replace("configs/", f"{ROOT}/configs/"), words)


def test_a_sweep_whose_data_is_missing_stops_at_once(capsys, tmp_path):
    """Bad input common to all runs is one error, not one per run."""
    code, _, err = call(
        capsys, "sweep", "--config=configs/mini.py", "--config.data.hash=deadbeef",
        f"--workdir={tmp_path}",
    )  # fmt: skip
    assert code == EXIT_BAD_INPUT
    assert len(err.splitlines()) == 1 and "config.data.hash" in err


def test_a_finished_sweep_prints_its_runs(capsys, mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    flags = ("sweep", "--config=configs/mini.py", f"--workdir={workdir}")
    code, out, err = call(capsys, *flags)
    assert code == 0 and out == f"19 runs in {workdir}/runs.csv\n", err
    _, out, _ = call(capsys, *flags, "--json")
    runs = json.loads(out)["runs"]
    assert len(runs) == 19 and all(run["status"] == "done" for run in runs)
