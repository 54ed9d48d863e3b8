"""A signal at any moment ends a command with exit code 75; the same command ends as if without."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time

import pytest

from scaling import cli, results
from scaling.data import prepare
from scaling.programs import ahead_of_time
from scaling.training import packed
from scaling.training.checkpoint import Checkpoints
from scaling.utils import files, signals
from scaling.utils.errors import EXIT_PREEMPTED
from tests.common import ROOT, STEP, TINY, flags

TRAIN = (
    f"--config={ROOT}/configs/mini.py",
    *flags(TINY),
    *flags(
        {
            "train.tokens": STEP * 64,
            "checkpoint.every_tokens": STEP * 32,
            "eval.every_tokens": STEP * 16,
        }
    ),
)
# Moment -> (the function that begins there, the number of its call).
MOMENTS = {
    "preparation": (prepare, "prepare", 1),
    "compilation": (ahead_of_time, "arguments", 1),
    "dispatch": (packed.Pack, "dispatch", 2),
    "evaluation": (packed, "evaluate", 2),
    "save": (Checkpoints, "save", 1),
    "last evaluation": (packed, "evaluate", 4),
    "result": (results, "write", 1),
}


def written(workdir):
    """What a command leaves behind: rows, evaluations, held-out losses."""
    runs = sorted((workdir / "runs").iterdir())
    return [
        (
            run.name,
            [(row["step"], row["loss"]) for row in files.read_lines(run / "metrics.jsonl", "step")],
            [(row["step"], row["loss"]) for row in files.read_lines(run / "evals.jsonl", "step")],
            results.read(run / "result.json").loss,
        )
        for run in runs
    ]


def signal_at(patch, owner, name: str, number: int) -> None:
    """Send this process SIGTERM when the function is called for that time."""
    calls, original = itertools.count(1), getattr(owner, name)

    def signalled(*args, **options):
        if next(calls) == number:
            signal.raise_signal(signal.SIGTERM)
        return original(*args, **options)

    patch.setattr(owner, name, signalled)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert cli.main(["train", *TRAIN, f"--workdir={workdir}"]) == 0
    (run,) = written(workdir)
    assert [step for step, _ in run[2]] == [16, 32, 48, 64]
    return [run]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_ends_a_run_and_the_command_resumes_to_equal_bits(
    undisturbed, tmp_path, monkeypatch, capsys, moment
):
    command = ["train", *TRAIN, f"--workdir={tmp_path}"]
    with monkeypatch.context() as patch:
        signal_at(patch, *MOMENTS[moment])
        assert cli.main(command) == EXIT_PREEMPTED
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("stopped by SIGTERM") and line.endswith("the same command continues")
    assert bool(list(tmp_path.glob("runs/*/result.json"))) == (moment == "result")
    assert cli.main(command) == 0
    assert written(tmp_path) == undisturbed


def test_a_signal_at_the_end_of_a_run_starts_no_other_run(cache, tmp_path, monkeypatch):
    sweep = {
        **TINY,
        "train.tokens": STEP * 16,
        "sweep.kind": "grid",
        "sweep.grid_keys": "('optim.lr',)",
        "sweep.grid_values": "((1e-3, 3e-3),)",
        "launch.pack": 1,
        "launch.workers": 1,
    }
    command = ["sweep", f"--config={ROOT}/configs/mini.py", *flags(sweep), f"--workdir={tmp_path}"]
    with monkeypatch.context() as patch:
        signal_at(patch, results, "write", 1)
        assert cli.main(command) == EXIT_PREEMPTED
    assert len(list(tmp_path.glob("runs/*"))) == 1
    assert cli.main(command) == 0
    assert len(list(tmp_path.glob("runs/*/result.json"))) == 2


STUCK = """
import ctypes, sys
sys.argv = ["scaling", "report"]
from scaling import cli
from scaling.commands import report
def run(args):
    print("ready", flush=True)
    mutex = ctypes.create_string_buffer(128)
    for _ in range(2):  # the second call waits in compiled code for ever, whatever signals come
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
report.run = run
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ("numbers", "seconds"),
    [([signal.SIGTERM], 10), ([signal.SIGINT, signal.SIGINT], 3)],
    ids=["one SIGTERM", "Ctrl-C twice"],
)
def test_a_signal_in_compiled_code_ends_the_process_in_time(numbers, seconds):
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(1.1 * signals.ONE_SIGNAL_SECONDS)
    _, error = process.communicate(timeout=30)
    assert process.returncode == EXIT_PREEMPTED
    assert error == f"stopped by {number.name}; the same command continues\n"
    assert time.monotonic() - started < seconds


LATE = """
import os, sys, threading
sys.argv = ["scaling", "report"]
from scaling import cli
from scaling.commands import report
from scaling.utils.errors import UserError
def run(args):
    threading.Thread(target=threading.Event().wait).start()  # as one of orbax that waits for a file
    raise UserError("no inodes")
report.run = run
sys.exit(cli.main())
"""


def test_a_thread_that_waits_does_not_keep_a_process_that_failed():
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LATE], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2 and done.stderr == "error: no inodes\n"
    assert time.monotonic() - started < 10


def test_the_handlers_are_there_before_heavy_imports():
    """The signal comes while Python imports jax."""
    code = (
        "import os, signal, sys\n"
        "class Signal:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'ml_collections':\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Signal())\n"
        f"sys.argv = ['scaling', 'plan', '--config={ROOT}/configs/mini.py']\n"
        "from scaling import cli\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == EXIT_PREEMPTED, done.stderr
    assert done.stderr == "stopped by SIGTERM; the same command continues\n"
