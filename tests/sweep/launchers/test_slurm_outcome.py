"""Test how the Slurm launcher reads the end of a job, without Slurm."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle

import pytest

from scaling.sweep.launchers import slurm
from scaling.sweep.launchers.process import Outcome
from scaling.sweep.launchers.slurm_task import Task, outcome_path
from scaling.utils import files


class Evil:
    """A pickle that runs a command."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture(autouse=True)
def no_lag(monkeypatch):
    monkeypatch.setattr(slurm, "LAG_SECONDS", 0.0)


def test_a_result_of_submitit_is_never_unpickled(tmp_path):
    content = pickle.dumps(("success", Evil(f"touch {tmp_path}/ran")))
    (tmp_path / "1_0_0_result.pkl").write_bytes(content)
    outcome = slurm._outcome(tmp_path, "1_0")
    assert outcome.problems == [f"Slurm job 1_0 failed; see {tmp_path}/1_0_0_log.out"]
    assert not (tmp_path / "ran").exists()
    assert slurm._outcome(tmp_path, "1_1") is None  # cancelled or killed


def test_an_outcome_is_read_back(tmp_path):
    outcome = Outcome(["worker was killed"], "", True)
    files.write_json(outcome_path(tmp_path, "7"), dataclasses.asdict(outcome), seal=True)
    assert slurm._outcome(tmp_path, "7") == outcome


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"{}",
        b'{"problems": 1, "refusal": "", "done": true}',
        b'{"problems": [1], "refusal": "", "done": true}',
        b'{"problems": [], "refusal": null, "done": true}',
        b'{"problems": [], "refusal": "", "done": "yes"}',
        json.dumps({"problems": [], "refusal": "", "done": True, "seal": "0"}).encode(),
    ],
    ids=["empty", "byte", "list", "null", "brackets", "no keys", *"abcde"],
)
def test_a_damaged_outcome_is_one_problem(tmp_path, content):
    path = outcome_path(tmp_path, "7")
    path.write_bytes(content)
    outcome = slurm._outcome(tmp_path, "7")
    (problem,) = outcome.problems
    assert problem.startswith(f"Slurm job 7: {path}: damaged (") and "\n" not in problem
    assert not outcome.done


def test_a_worker_that_cannot_start_is_a_problem_of_its_job(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    for name in ("SLURM_ARRAY_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "logs").write_text("a file in the place of the folder")
    Task(tmp_path, "launch")()
    (problem,) = slurm._outcome(tmp_path / "slurm", "7").problems
    assert problem.startswith("Slurm job 7: ") and "cannot be written" in problem
