"""Damage every kind of file of a workdir and of the data cache, and see what the commands say.

    python -m benchmarks.faults_files --out=results/bench/faults_files.json

A case copies a finished study, or an unfinished run, damages one file, and runs a command. It fails
if the command

- ends in a traceback, or prints one;
- runs longer than LIMIT_SECONDS;
- prints more than MANY_LINES to stderr;
- refuses or skips without the name of the file;
- ignores the damage silently, or trains to another loss.

`--templates` keeps the undamaged folders for the next call. Pictures are not drawn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common import write_report
from benchmarks.faults_damage import Case, of_cache, of_run, of_study
from benchmarks.faults_signals import Trial
from scaling.utils import files

LIMIT_SECONDS = 90
MANY_LINES = 6
TINY = [
    "--config.sweep.kind=none", "--config.model.width=16", "--config.model.head_dim=8",
    "--config.model.mlp_width=64", "--config.eval.tokens=2048", "--config.train.tokens=5120",
    "--config.checkpoint.every_tokens=2048", "--config.checkpoint.keep=3",
]  # fmt: skip
STUDY = [
    "--config.sweep.budgets=(2e8,6e8,2e9)", "--config.sweep.sizes_per_budget=4",
    "--config.sweep.rungs=6", "--config.checkpoint.keep=1", "--config.launch.pack=auto",
    "--config.launch.workers=1", "--config.laws.bootstrap=20", "--config.laws.holdout_factor=3",
    "--config.launch.stale_seconds=1.5", "--config.launch.heartbeat_seconds=0.5",
]  # fmt: skip
CONFIG = f"--config={Path(__file__).resolve().parents[1] / 'configs' / 'mini.py'}"


class TooLong(BaseException):
    """The command ran longer than LIMIT_SECONDS."""


def main() -> None:
    """Run all cases, print those that fail, and how many did of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="results/bench/faults_files.json")
    parser.add_argument("--templates", default="", help="folder of the undamaged study and run")
    parser.add_argument("--only", default="", help="kinds, joined by commas")
    args = parser.parse_args()
    kinds = args.only.split(",") if args.only else []
    folder = Path(args.templates or tempfile.mkdtemp())
    tried: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    failures = []
    for trial in trials(folder, lambda name: not kinds or name.split(":")[0] in kinds):
        kind = trial.name.split(":")[0]
        tried[kind] += 1
        if not trial.good:
            failed[kind] += 1
            failures.append({"damage": trial.name, "fault": trial.resumed})
            print(trial.name, trial.resumed, sep=" | ", flush=True)
    print(f"{'kind':28} {'tried':>6} {'failed':>6}")
    for kind, count in tried.items():
        print(f"{kind:28} {count:6} {failed[kind]:6}")
    print(f"{'all':28} {tried.total():6} {failed.total():6}")
    table = {kind: {"tried": n, "failed": failed[kind]} for kind, n in tried.items()}
    write_report(args.out, {"kinds": table, "failures": failures})


def trials(scratch: Path, chosen: Callable[[str], bool]) -> Iterator[Trial]:
    """Yield the trials that `chosen` accepts by name, "kind: damage (command)"."""
    os.environ["SCALING_CACHE"] = str(scratch / "cache")

    from scaling.report import style
    from scaling.utils import machine

    machine.start_jax(2)  # as the study does, before a command that needs no devices looks at them
    style.render = lambda *_, **__: (b"", b"")  # drawing is no part of this, and takes seconds
    loss = make_templates(scratch)
    groups = {"study": of_study, "run": of_run, "cached": of_cache}
    for template, cases in groups.items():
        for case in cases(scratch / template):
            name = f"{case[0]}: {case[1]} ({case[3][0]})"
            if chosen(name):
                begin = time.monotonic()
                code, fault = try_case(case, scratch / template, loss)
                yield Trial(
                    name, time.monotonic() - begin, code, fault or "as it should", not fault
                )


def make_templates(folder: Path) -> float:
    """Make a study of which one run failed, and a run killed at step 32; return that run's loss."""
    if not (folder / "loss.json").is_file():
        study, run = folder / "study", folder / "run"
        call("curves", CONFIG, *STUDY, f"--workdir={study}", seconds=3600)
        result = min(study.glob("runs/*/result.json"), key=lambda p: p.parent.name)
        row = {**json.loads(result.read_text()), "status": "failed", "reason": "no space"}
        row = {k: None if k in ("loss", "loss_se") else v for k, v in row.items() if k != "seal"}
        failure = result.parent / "failure.json"
        files.write_json(failure, {**row, "launch": "earlier"}, seal=True)
        result.unlink()
        call("train", CONFIG, *TINY, f"--workdir={run}")
        (result,) = run.glob("runs/*/result.json")
        loss = json.loads(result.read_text())["loss"]
        result.unlink()
        shutil.rmtree(result.parent / "checkpoints" / "40")
        tokens = shutil.copytree(run, folder / "cached") / "cache" / "tokens"
        shutil.copytree(folder / "cache" / "tokens", tokens)
        (folder / "loss.json").write_text(json.dumps(loss))
    return json.loads((folder / "loss.json").read_text())


def try_case(case: Case, template: Path, loss: float) -> tuple[int, str]:
    """Return (exit code, what the command did wrong, "" if nothing)."""
    kind, _, damage, (command, *_) = case
    scratch = Path(tempfile.mkdtemp())
    workdir = shutil.copytree(
        template, scratch / "w", ignore=shutil.ignore_patterns("tensorboard", "*.png", "*.svg")
    )
    try:
        damaged = damage(workdir)
        flags = {"train": [CONFIG, *TINY], "sweep": [CONFIG, *STUDY]}.get(command, [])
        if kind.startswith("cache"):
            flags.append(f"--config.data.cache_dir={workdir / 'cache'}")
        code, text = call(command, *flags, f"--workdir={workdir}")
        found = loss
        if code == 0 and command == "train":
            (result,) = workdir.glob("runs/*/result.json")
            found = json.loads(result.read_text())["loss"]
        fault = fault_of(case, damaged, code, text)
        if not fault and found != loss:
            fault = f"loss {found}, not {loss}"
        return -1 if code is None else code, f"{fault}: {' '.join(text.split())[-200:]}" * bool(
            fault
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def fault_of(case: Case, damaged: Path, code: int | None, text: str) -> str:
    """Return what is wrong with the end of a command that met a damaged file; "" if nothing."""
    kind, name = case[:2]
    if code is None or "Traceback" in text:
        return "no end" if "TooLong" in text else "traceback"
    if len(text.splitlines()) > MANY_LINES:
        return f"{len(text.splitlines())} lines"
    if kind == "claim":
        return "" if code in (0, 3) else f"exit {code}"
    if kind == "checkpoint" and code == 0:
        return ""  # by its loss the damage was met, or is in a file that no restore reads
    if kind == "metrics.jsonl" and case[3] == ["status"] and code == 0:
        return ""  # it reads the newest row alone
    # a file of an older version lacks keys, and gets their defaults
    if kind in ("config.json", "sweep.json") and name.startswith("no ") and code == 0:
        return ""
    where = "checkpoint" if "checkpoints" in damaged.parts else damaged.name
    refused = code == 2 and damaged.parent.name in text  # as being of another run
    if where not in text and not refused:
        return "silent" if code == 0 else "unnamed"
    return ""


def call(*args: str, seconds: int = LIMIT_SECONDS) -> tuple[int | None, str]:
    """Return (exit code, None after an exception; all that the command wrote to stderr)."""
    from scaling import cli

    code: int | None = None
    with captured() as stream, alarm(seconds):
        try:
            code = cli.main(list(args))
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            os.write(2, f"Traceback: {type(error).__name__}: {error}".encode())
        time.sleep(0.05)  # threads may still print
    stream.seek(0)
    text = stream.read().decode(errors="replace")
    stream.close()
    return code, "\n".join(line for line in text.splitlines() if "\r" not in line and line.strip())


@contextlib.contextmanager
def captured() -> Iterator:
    """Yield a file that gets stderr, of Python and of C++; stdout is dropped."""
    stream = tempfile.TemporaryFile()  # noqa: SIM115
    null = os.open(os.devnull, os.O_WRONLY)
    before = [os.dup(1), os.dup(2)]
    os.dup2(null, 1)
    os.dup2(stream.fileno(), 2)
    try:
        yield stream
    finally:
        for number, descriptor in enumerate(before, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(null)


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    """Raise TooLong in the main thread after so many seconds."""

    def ring(*_) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
