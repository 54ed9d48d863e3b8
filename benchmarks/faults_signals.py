"""SIGTERM and SIGINT at 40 moments of every command that trains, measures or fits.

A moment is a number of seconds after the process handles signals, or the time at which a number of
files of a pattern are in the workdir. `benchmarks.faults` runs these trials.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import results
from scaling.utils import files
from scaling.utils.errors import EXIT_PREEMPTED

LIMIT_SECONDS = 12.0  # 10, and one dispatch and one save of these tiny runs
TIMEOUT = 600.0
TINY = {
    "model.width": 16, "model.head_dim": 8, "model.mlp_width": 64, "eval.tokens": 2048,
    "eval.every_tokens": 20_480,
}  # fmt: skip
RUN = {**TINY, "sweep.kind": "none", "train.tokens": 400_000, "checkpoint.every_tokens": 40_960}
GRID = {
    **TINY, "sweep.kind": "grid", "sweep.grid_keys": "('optim.lr',)",
    "sweep.grid_values": "((1e-3, 2e-3, 3e-3, 4e-3),)", "train.tokens": 100_000, "launch.pack": 1,
}  # fmt: skip
ROWS, SAVED = "runs/*/metrics.jsonl", "runs/*/checkpoints/[0-9]*/_CHECKPOINT_METADATA"
RESULT = "runs/*/result.json"
# Command -> the moments of its trials; (pattern, number of files) or seconds.
MOMENTS: dict[str, tuple[float | tuple[str, int], ...]] = {
    "train": (
        0.0, 0.1, 0.2, 0.4, 0.7, 1.2, 1.6, 2.0, ("runs/*/config.json", 1), (ROWS, 1),
        ("runs/*/evals.jsonl", 1), (SAVED, 1), ("runs/*/evaluation.json", 1), (RESULT, 1),
    ),
    "sweep": (0.5, 1.5, ("sweep.json", 1), (ROWS, 1), (RESULT, 1), (RESULT, 2), (RESULT, 4)),
    "sweep of two workers": (1.0, 3.0, ("logs/*", 2), (ROWS, 2), (RESULT, 1)),
    "curves": (0.7, (RESULT, 5), (RESULT, 18), ("forecast.json", 1), (ROWS, 19)),
    "holdout": (1.5, (ROWS, 19)),
    "fit": (0.1, 0.7, 1.5),
    "plan --measure": (0.1, 0.3, 1.0),
    "two processes": ((ROWS, 1),),
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One signal and what followed."""

    name: str
    seconds: float  # from the signal to the end of the last process
    code: int
    resumed: str  # "same" if the command then ended with the same numbers, else what differs
    good: bool


def arguments(command: str, workdir: Path) -> list[list[str]]:
    """Return the arguments of `scaling` for each process of the command."""

    def flags(values: dict[str, Any]) -> list[str]:
        return ["--config=mini", *(f"--config.{k}={v}" for k, v in values.items())]

    here = f"--workdir={workdir}"
    if command == "train":
        return [["train", *flags(RUN), here]]
    if command == "sweep":
        return [["sweep", *flags({**GRID, "launch.workers": 1}), here]]
    if command == "sweep of two workers":
        return [["sweep", *flags({**GRID, "launch.workers": 2}), here]]
    if command == "plan --measure":
        return [["plan", *flags(GRID), "--measure"]]
    if command == "two processes":
        ranks = [f"--coordinator=127.0.0.1:{_free_port()}", "--processes=2"]
        mesh = {"parallel.fsdp": 2, "parallel.cpu_devices": 1}
        few = {"train.tokens": 81_920, "checkpoint.every_tokens": 20_480}  # their steps are slow
        command = ["train", *flags({**RUN, **mesh, **few}), here, *ranks]
        return [[*command, f"--process={k}"] for k in range(2)]
    return [[command, *(flags({}) if command == "curves" else []), here]]


def trials(scratch: Path, chosen: Callable[[str], bool]) -> Iterator[Trial]:
    """Yield the trials whose name is chosen."""
    number = 0
    for command, moments in MOMENTS.items():
        for moment in moments:
            number += 1
            kind = signal.SIGINT if number % 3 == 0 else signal.SIGTERM
            at = f"{moment} s" if isinstance(moment, float) else f"{moment[1]} {moment[0]}"
            name = f"{command}, {kind.name} at {at}"
            if chosen(name):
                yield _trial(scratch, command, moment, kind, name)


@functools.cache
def _finished(scratch: Path, command: str) -> Path:
    """Return the workdir of the command that no signal disturbed."""
    workdir = scratch / f"undisturbed-{command.replace(' ', '-')}"
    processes = [_start(a) for a in arguments(command, workdir)]
    for process in processes:
        _, error = process.communicate(timeout=TIMEOUT)
        if process.returncode:
            raise RuntimeError(f"{command} fails without a signal: {error}")
    return workdir


def _trial(scratch: Path, command: str, moment, kind: signal.Signals, name: str) -> Trial:
    workdir = scratch / "disturbed"
    shutil.rmtree(workdir, ignore_errors=True)
    expected: Any = None
    if command in ("fit", "holdout"):
        study = _finished(scratch, "curves")
        shutil.copytree(study, workdir)
        shutil.rmtree(workdir / "curves")
        (workdir / "summary.txt").unlink()
        if command == "holdout":
            run_id = json.loads((study / "forecast.json").read_text())["run_id"]
            shutil.rmtree(workdir / "runs" / run_id)
        expected = _numbers(study)
    elif command != "plan --measure":
        expected = _numbers(_finished(scratch, command))
    processes = [_start(a) for a in arguments(command, workdir)]
    _wait_for(moment, workdir, processes[-1])
    alive = processes[-1].poll() is None
    all_there = len(list(workdir.glob(RESULT))) == len(expected or ()) > 0
    started = time.monotonic()
    processes[-1].send_signal(kind)
    errors = [process.communicate(timeout=TIMEOUT)[1] for process in processes]
    seconds = time.monotonic() - started
    codes = {process.returncode for process in processes}
    code = codes.pop() if len(codes) == 1 else -1
    again = [_start(a) for a in arguments(command, workdir)]
    failures = [
        error for p in again if (error := p.communicate(timeout=TIMEOUT)[1]) and p.returncode
    ]
    resumed = "same"
    if failures:
        resumed = failures[0].strip().splitlines()[-1]
    elif expected is not None and _numbers(workdir) != expected:
        resumed = "other numbers"
    lines = [line for error in errors for line in error.splitlines() if "Traceback" in line]
    in_time = code == EXIT_PREEMPTED or (all_there and code == 0)  # it may have ended meanwhile
    good = alive and in_time and seconds <= LIMIT_SECONDS and resumed == "same" and not lines
    return Trial(name, seconds, code, resumed, good)


def _start(arguments: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "scaling", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
    )  # fmt: skip


def _wait_for(moment, workdir: Path, process: subprocess.Popen) -> None:
    while not _handles(process.pid, signal.SIGTERM) and process.poll() is None:
        time.sleep(0.002)
    if isinstance(moment, float):
        time.sleep(moment)
        return
    pattern, count = moment
    deadline = time.monotonic() + TIMEOUT
    while len(list(workdir.glob(pattern))) < count and process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{count} files {pattern} did not come")
        time.sleep(0.002)


def _handles(pid: int, number: int) -> bool:
    """Return whether the process catches or holds the signal; proc(5), SigCgt and SigBlk."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt", "SigBlk"))]
    return any(mask >> (number - 1) & 1 for mask in masks)


def _numbers(workdir: Path) -> dict[str, Any]:
    """Return the rows, evaluations and held-out loss of every run of a workdir."""
    numbers: dict[str, Any] = {}
    for run in sorted((workdir / "runs").iterdir()):
        rows = {
            name: [(row["step"], row["loss"]) for row in files.read_lines(run / name, "step")]
            for name in ("metrics.jsonl", "evals.jsonl")
        }
        numbers[run.name] = (rows, results.read(run / "result.json").loss)
    return numbers


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
