"""The `scaling` command: exit codes, signals, broken pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types

import pytest

from scaling import cli
from scaling.commands import command_line
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_PREEMPTED, Preempted, UserError
from tests.common import ROOT


def raising(error: BaseException):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("config.seed is odd"), EXIT_BAD_INPUT, "error: config.seed is odd"),
        (UserError("first\nsecond"), EXIT_BAD_INPUT, "error: first second"),
        (Preempted("SIGTERM"), EXIT_PREEMPTED, "stopped by SIGTERM; the same command continues"),
        (
            PermissionError(13, "Permission denied", "a/runs.csv"),
            EXIT_BAD_INPUT,
            "error: a/runs.csv: Permission denied",
        ),
        (OSError(28, "No space left"), EXIT_BAD_INPUT, "error: the output: No space left"),
        (
            MemoryError(),
            EXIT_BAD_INPUT,
            "error: the memory of this machine is used up: MemoryError",
        ),
        (UserError("x" * 9999), EXIT_BAD_INPUT, f"error: {'x' * 499}…{'x' * 499}"),
        (KeyboardInterrupt(), EXIT_PREEMPTED, "stopped; the same command continues"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(capsys, monkeypatch, error, code, line):
    args = types.SimpleNamespace(run=raising(error))
    monkeypatch.setattr(command_line, "parse", lambda argv: args)
    assert cli.main([]) == code
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{line}\n")


def test_the_code_of_a_command_is_the_code_of_the_process(monkeypatch):
    args = types.SimpleNamespace(run=lambda args: 3)
    monkeypatch.setattr(command_line, "parse", lambda argv: args)
    assert cli.main([]) == 3


def test_sigterm_between_runs_is_a_preemption(capsys, monkeypatch):
    args = types.SimpleNamespace(run=lambda args: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(command_line, "parse", lambda argv: args)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main([]) == EXIT_PREEMPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "stopped by SIGTERM" in capsys.readouterr().err


@pytest.mark.parametrize("lines", [10, 20_000])
def test_a_reader_that_has_seen_enough_ends_a_report_quietly(tmp_path, lines):
    (tmp_path / "summary.txt").write_text("".join(f"line {i}\n" for i in range(lines)))
    process = subprocess.Popen(
        [sys.executable, "-m", "scaling", "report", f"--workdir={tmp_path}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if lines > 10:
        assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(timeout=60), err) == (0, "")


@pytest.mark.parametrize(
    "streams, end",
    [
        (">/dev/full", (EXIT_BAD_INPUT, "error: the output: No space left on device\n")),
        (">&-", (0, "")),
        ("<&- >&- 2>&-", (0, "")),
        ("| true", (0, "")),
    ],
)
def test_an_output_that_is_full_closed_or_unread_is_no_traceback(streams, end):
    command = f"set -o pipefail; {sys.executable} -m scaling --version {streams}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == end


def test_a_broken_pipe_that_is_not_stdout_is_an_error(monkeypatch, tmp_path):
    args = types.SimpleNamespace(run=raising(BrokenPipeError("of a worker")))
    monkeypatch.setattr(command_line, "parse", lambda argv: args)
    with open(tmp_path / "out", "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with pytest.raises(BrokenPipeError):
            cli.main([])
