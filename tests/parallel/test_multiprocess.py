"""Runs over several processes on loopback: one curve, shares of the data, ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from scaling import results
from scaling.parallel import multiprocess
from scaling.parallel.rendezvous import ProcessRank
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_LOST_PEER, EXIT_PREEMPTED, UserError
from tests.common import ROOT, STEP, TINY, flags

TRAIN = (
    "train",
    "--config=configs/mini.py",
    *flags(TINY),
    f"--config.checkpoint.every_tokens={STEP * 16}",
    "--config.parallel.cpu_devices=1",
)
# `scaling ...` that also prints, per dispatch read, the sums of its sequences as [K][B]
RECORDED = """
import json, sys
from scaling import cli
from scaling.data import pipeline
read = pipeline.Dispatches.__getitem__
def recorded(self, k):
    tokens_KBT1 = read(self, k)
    place = range(1, tokens_KBT1.shape[-1] + 1)
    sums = (tokens_KBT1.astype(int) * place).sum(-1).tolist()
    print(json.dumps({"dispatch": int(k), "sums": sums}), flush=True)
    return tokens_KBT1
pipeline.Dispatches.__getitem__ = recorded
sys.exit(cli.main(sys.argv[1:]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(*groups_of_arguments, workdir, wait="60") -> list[subprocess.Popen]:
    """One process for each list of arguments, together where there are several."""
    count, port = len(groups_of_arguments), free_port()
    started = []
    for k, arguments in enumerate(groups_of_arguments):
        rank = [f"--coordinator=127.0.0.1:{port}", f"--processes={count}", f"--process={k}"]
        command = [*TRAIN, f"--workdir={workdir}", *arguments, *(rank if count > 1 else [])]
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", RECORDED, *command],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "SCALING_WAIT_SECONDS": wait},
            )
        )
    return started


def end(processes, seconds=120) -> list[tuple[int, str, str]]:
    """(exit code, what was read, stderr) of each."""
    try:
        found = [p.communicate(timeout=seconds) for p in processes]
    finally:
        for p in processes:
            p.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, found, strict=True)]


def read_by(output: str) -> dict[int, list]:
    rows = [json.loads(line) for line in output.splitlines() if line.startswith('{"dispatch"')]
    return {row["dispatch"]: row["sums"] for row in rows}


def curve(workdir) -> list[float]:
    (path,) = workdir.glob("runs/*/metrics.jsonl")
    return [row["loss"] for row in files.read_lines(path, "step")]


def checkpoints(workdir) -> list[int]:
    return sorted(int(p.name) for p in workdir.glob("runs/*/checkpoints/*") if p.name.isdigit())


@pytest.fixture(scope="module")
def alone(tmp_path_factory, cache):
    """(workdir, what was read) of 40 steps in one process."""
    workdir = tmp_path_factory.mktemp("alone")
    ((code, output, error),) = end(start([f"--config.train.tokens={STEP * 40}"], workdir=workdir))
    assert code == 0, error
    return workdir, read_by(output)


@pytest.mark.parametrize(
    ("count", "mesh"),
    [(2, "fsdp=2"), pytest.param(4, "data=4", marks=pytest.mark.slow)],
    ids=["2 by fsdp", "4 by data"],
)
def test_several_processes_give_the_curve_of_one_and_read_their_shares(
    alone, tmp_path, count, mesh
):
    arguments = [f"--config.train.tokens={STEP * 40}", f"--config.parallel.{mesh}"]
    ended = end(start(*[arguments] * count, workdir=tmp_path))
    for code, _, error in ended:
        assert code == 0, error
    workdir, whole = alone
    np.testing.assert_allclose(curve(tmp_path), curve(workdir), rtol=1e-4)
    assert len((next(tmp_path.glob("runs/*/metrics.jsonl"))).read_text().splitlines()) == 10
    (one,), (many,) = (results.collect(w)[0] for w in (workdir, tmp_path))
    assert many.loss == pytest.approx(one.loss, rel=1e-4)
    assert many.metrics == pytest.approx(one.metrics, rel=1e-3) and "accuracy_se" in one.metrics
    assert len(list(tmp_path.glob("runs/*/tensorboard/events*"))) == 1
    shares = [read_by(output) for _, output, _ in ended]
    for k, sums in whole.items():
        parts = [share[k] for share in shares if k in share]
        assert all(np.shape(part) == (len(sums), 4 // count) for part in parts)
        if len(parts) == count:  # not every process has read as far ahead as the one alone
            assert np.concatenate(parts, axis=1).tolist() == sums
    assert all(0 in share for share in shares)


def test_a_signal_to_one_saves_all_and_a_death_ends_all_and_one_goes_on(tmp_path, cache):
    length = [
        f"--config.train.tokens={STEP * 800}",
        f"--config.checkpoint.every_tokens={STEP * 32}",
    ]
    arguments = [*length, "--config.parallel.fsdp=2"]

    def until_saved_beyond(processes, step):
        deadline = time.time() + 90
        while time.time() < deadline and not [s for s in checkpoints(tmp_path) if s > step]:
            assert all(p.poll() is None for p in processes), end(processes)
            time.sleep(0.02)

    processes = start(arguments, arguments, workdir=tmp_path)
    until_saved_beyond(processes, 0)
    processes[1].send_signal(signal.SIGTERM)
    ended = end(processes)
    for code, _, error in ended:
        assert code == EXIT_PREEMPTED, error
        assert "SIGTERM: saved" in error and "Traceback" not in error
    saved = checkpoints(tmp_path)[-1]
    assert len(curve(tmp_path)) == saved // 4, "saved where the rows end"

    processes = start(arguments, arguments, workdir=tmp_path)
    until_saved_beyond(processes, saved)
    processes[0].kill()  # the one whose service JAX's own connections lead to
    killed = time.monotonic()
    _, (code, _, error) = end(processes, seconds=60)
    assert code == EXIT_LOST_PEER, error
    (line,) = error.splitlines()
    assert "another process of this run has ended" in line and "(process 0)" in line
    assert time.monotonic() - killed < 15

    (again,) = end(start(length, workdir=tmp_path))
    assert again[0] == 0, again[2]
    ((code, _, error),) = end(start(length, workdir=tmp_path / "alone"))
    assert code == 0, error
    np.testing.assert_allclose(curve(tmp_path), curve(tmp_path / "alone"), rtol=1e-4)


def test_processes_that_disagree_are_told_in_what(tmp_path, cache):
    ended = end(start([], ["--config.optim.lr=0.001"], workdir=tmp_path))
    for code, _, error in ended:
        assert code == EXIT_BAD_INPUT, error
        (line,) = error.splitlines()
        assert line == (
            "error: processes disagree on the config: optim.lr is 0.003 on process 0 and 0.001 on "
            "process 1"
        )
    assert not list(tmp_path.iterdir())


def test_bad_input_that_one_process_finds_ends_all(alone, tmp_path):
    """Process 0 alone looks at the folder, which is of another run."""
    shutil.copytree(alone[0], tmp_path, dirs_exist_ok=True)
    (run,) = (tmp_path / "runs").iterdir()
    (run / "result.json").unlink()
    config = json.loads((run / "config.json").read_text())
    config["optim"]["lr"] = 1.0
    (run / "config.json").write_text(json.dumps(config))
    arguments = [f"--config.train.tokens={STEP * 40}"]
    for code, _, error in end(start(arguments, arguments, workdir=tmp_path)):
        assert code == EXIT_BAD_INPUT and "belongs to another run" in error, error
        assert "Traceback" not in error


def test_a_budget_is_not_measured_by_several(tmp_path, cache):
    sweep = ["sweep", "--config=configs/mini.py", "--budget=1e15", f"--workdir={tmp_path}"]
    port = free_port()
    rank = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "scaling", *sweep, *rank, f"--process={k}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for k in range(2)
    ]  # fmt: skip
    for code, _, error in end(both):
        assert code == EXIT_BAD_INPUT and "--budget is measured by one process" in error, error


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_that_does_not_come_is_one_line_in_bounded_time(tmp_path, cache, process):
    rank = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=3", f"--process={process}"]
    ((code, _, error),) = end(start(rank, workdir=tmp_path, wait="1"), seconds=30)
    assert code == EXIT_BAD_INPUT, error
    (line,) = error.splitlines()
    expected = ("of 3 processes numbers 1, 2 did not come", "cannot be reached within 1 s")
    assert expected[process] in line


def test_ranks_by_flags_variables_and_slurm():
    slurm = {"SLURM_JOB_ID": "4098", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}

    def of(nodes):
        return multiprocess.find_rank("", "", "", {**slurm, "SLURM_STEP_NODELIST": nodes})

    assert of("gpu[007-009,12],other") == ProcessRank("gpu007:61442", 4, 3)
    assert of("a-1,b[2-3]") == ProcessRank("a-1:61442", 4, 3)
    variables = {
        "SCALING_COORDINATOR": "h:1",
        "SCALING_PROCESSES": "2",
        "SCALING_PROCESS_ID": "1",
        **slurm,
    }
    assert multiprocess.find_rank("", "", "", variables) == ProcessRank("h:1", 2, 1)
    assert multiprocess.find_rank("[::1]:5", "3", "0", variables) == ProcessRank("[::1]:5", 3, 0)
    assert ProcessRank("[::1]:5", 3, 0).address == ("::1", 5)
    assert multiprocess.find_rank("", "1", "", {**slurm, "SLURM_STEP_NODELIST": "a"}) is None
    assert multiprocess.find_rank("", "", "", {"SLURM_STEP_NUM_TASKS": "1"}) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("h:1", "", "0"), "^--processes missing"),
        (("h", "2", "0"), "^--coordinator=h: must be host:port"),
        (("h:1", "2", "2"), "^--process=2: must be a number from 0 to below --processes=2"),
        (("h:1", "2", "x"), "^--process=x"),
    ],
)
def test_ranks_that_make_no_sense(given, message):
    with pytest.raises(UserError, match=message):
        multiprocess.find_rank(*given, {})


def test_workers_of_a_launcher_are_alone_under_any_srun():
    slurm = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2",
             "SLURM_STEP_NODELIST": "a", "SCALING_COORDINATOR": "h:1"}  # fmt: skip
    assert multiprocess.find_rank("", "", "", {**slurm, "SCALING_PROCESSES": "1"}) is None
