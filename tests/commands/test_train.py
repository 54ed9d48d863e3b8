"""`scaling train`: its result, its status and report, its bar, its bad input."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import pytest

from scaling.utils import files, precision
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from tests.commands.common import assert_refused, call
from tests.common import ROOT, STEP, TINY

TRAIN = (
    "train",
    f"--config={ROOT}/configs/mini.py",
    *(f"--config.{key}={value}" for key, value in TINY.items()),
    f"--config.train.tokens={STEP * 64}",
)
BAD = {
    "train": "--config is missing",
    "train --config=configs/mini.py": "--workdir is missing",
    "train --config=configs/mini.py --workdir=W --profile=few": "--profile: 'few' is not a whole",
    "train --config=configs/mini.py --workdir=W --profile=0": "--profile: '0' is below 1",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


BAD_RUNS = {
    "batch over the mesh": ("--config.train.batch_size=3", "config.train.batch_size=3"),
    "mesh over the devices": ("--config.parallel.fsdp=3", "does not make the 2 devices"),
    "missing folder": (
        "--config.data.name=text_folder --config.data.path=/nowhere", "no such folder",
    ),
    "other corpus": ("--config.data.hash=deadbeef", "config.data.hash=deadbeef"),
    "width over the memory": ("--config.model.width=1e9", "6.4e+07 TB on 2 devices together for"),
    "depth over the memory": ("--config.model.depth=1e15", "lower config.model.width or depth"),
    "MLP over the memory": ("--config.model.mlp_width=1e15", "2.05e+06 TB on 2 devices"),
    "experts over the memory": ("--config.model.experts=1e12", "parameters and their gradients"),
    "dispatch over the memory": (
        "--config.train.steps_per_dispatch=1e12", "for the rows of a dispatch; lower",
    ),
    "evaluation over the memory": (
        "--config.eval.batch_size=1e12", "for the rows of an evaluation step; lower",
    ),
    "too much held out": ("--config.eval.tokens=100000000", "config.eval.tokens"),
}  # fmt: skip


@pytest.mark.parametrize(("flags", "words"), BAD_RUNS.values(), ids=BAD_RUNS.keys())
def test_runs_that_cannot_start_say_why(capsys, flags, words, tmp_path):
    code, _, err = call(
        capsys, "train", "--config=configs/base.py", *flags.split(), f"--workdir={tmp_path}"
    )
    assert code == EXIT_BAD_INPUT
    assert words in err and len(err.splitlines()) == 1, err


@pytest.fixture(scope="module")
def trained(cache, tmp_path_factory):
    """(the workdir of a finished run, what `train --json` printed)."""
    workdir = tmp_path_factory.mktemp("trained")
    done = subprocess.run(
        [sys.executable, "-m", "scaling", *TRAIN, f"--workdir={workdir}", "--json"],
        cwd=ROOT, capture_output=True, text=True, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_stdout_holds_the_result_and_nothing_else(trained):
    workdir, out = trained
    result = json.loads(out)
    path = workdir / "runs" / result["run_id"] / "result.json"
    assert result == files.read_json(path) and result["status"] == "done"


def test_a_single_run_has_a_status_and_a_report(capsys, trained):
    workdir, out = trained
    result = json.loads(out)
    code, out, err = call(capsys, "status", f"--workdir={workdir}")
    assert code == 0 and "1 done" in out and f"loss {result['loss']:.4f}" in out, err
    _, out, _ = call(capsys, "status", f"--workdir={workdir}", "--json")
    assert [run["run_id"] for run in json.loads(out)["runs"]] == [result["run_id"]]
    code, out, err = call(capsys, "report", f"--workdir={workdir}")
    assert code == 0, err
    loss = precision.with_error(result["loss"], result["loss_se"])
    assert out.startswith(f"{result['run_id']}: loss {loss} nats/token"), out
    _, out, _ = call(capsys, "report", f"--workdir={workdir}", "--json")
    assert json.loads(out)["runs"] == [result]
    own = [f for f in TRAIN[1:] if "train.tokens" not in f]
    line = " ".join(("status", *own, f"--workdir={workdir}"))
    assert_refused(capsys, line, "holds no sweep, and no run of this config")
    code, out, _ = call(capsys, "status", *TRAIN[1:], f"--workdir={workdir}")
    assert code == 0 and "1 done" in out
    for command in ("fit", "holdout", "curves", "conventions"):
        assert_refused(capsys, f"{command} --workdir={workdir}", "holds no sweep")


def test_a_diverged_run_is_incomplete_and_has_its_row(capsys, tmp_path):
    flags = (*TRAIN, "--config.optim.lr=1e30", f"--workdir={tmp_path}")
    code, out, err = call(capsys, *flags)
    assert code == EXIT_INCOMPLETE and out == ""
    assert re.fullmatch(r"error: d16-\S+ diverged: .*", err.splitlines()[-1])
    code, out, _ = call(capsys, *flags, "--json")
    assert code == EXIT_INCOMPLETE and json.loads(out)["status"] == "diverged"


def test_an_unfinished_run_has_a_status_and_a_report(capsys, trained, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(trained[0], workdir)
    next(workdir.glob("runs/*/result.json")).unlink()
    code, out, _ = call(capsys, "status", f"--workdir={workdir}")
    assert code == 0 and ("1 running" in out or "1 paused" in out)
    code, out, _ = call(capsys, "report", f"--workdir={workdir}")
    assert code == 0 and out == "no run has ended; `scaling status` shows how far they are\n"


def test_the_bar_shows_speed_and_loss_on_80_columns(tmp_path):
    """A terminal of 80 columns is a pty. The bar leaves it whole lines, and TFDS prints none."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "scaling", *TRAIN, f"--workdir={tmp_path / 'w'}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=slave, text=True,
        env={**os.environ, "SCALING_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while chunk := _read(master):
        shown += chunk
    out, _ = process.communicate()
    assert process.returncode == 0, shown
    assert re.fullmatch(r"d16-\S+: loss .*\n", out), "nothing but the result is on stdout"
    lines = [line for line in re.split(r"[\r\n]+", shown.decode()) if "tok/s" in line]
    last = lines[-1]
    assert len(last) <= 80 and last.startswith("100%"), last
    assert re.search(r"[\d.]+[kM]?tok/s", last) and re.search(r"loss=\d\.\d{4}", last), last
    assert b"Downloading" not in shown and b"Dataset" not in shown


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # the process has closed its end
        return b""
