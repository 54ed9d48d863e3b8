"""Run one worker in a Slurm job as a child process that saves when Slurm stops the job.

A job of several nodes runs one worker per node. They find each other by Slurm's variables.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Outcome, Worker
from scaling.sweep.shared import workdir_url
from scaling.utils import files
from scaling.utils.errors import EXIT_PREEMPTED, UserError

GRACE_SECONDS = 600  # longest wait of a preempted job for its end after its worker saved


class Task:
    """A job's function: run one worker until the sweep has no work left. submitit pickles it."""

    def __init__(self, workdir: Path | str, launch_id: str):
        self.workdir, self.launch_id = workdir, launch_id
        self.worker: Worker | None = None
        self.preempted = False

    def __call__(self) -> None:
        rank = int(os.environ.get("SLURM_PROCID", 0))  # among nodes that train each run together
        job = _job_id()
        try:
            outcome = self._work(job, rank)
        except UserError as error:
            outcome = Outcome([f"Slurm job {job}: {error}"])
        if not rank:
            folder = workdir_url.open_workdir(self.workdir).path / "slurm"
            files.write_json(outcome_path(folder, job), dataclasses.asdict(outcome), seal=True)

    def _work(self, job: str, rank: int) -> Outcome:
        """Run one worker to its end. Raises SystemExit if the job is to be requeued."""
        name = f"slurm{job}" + (f"-node{rank}" if rank else "")
        tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
        # on several nodes the workers find each other by Slurm's own variables
        env = {"SCALING_PROCESSES": ""} if tasks > 1 else {}
        self.worker = Worker(name, self.workdir, self.launch_id, env=env)
        # Slurm sends SIGTERM to all processes of a job that it stops, including the worker
        signal.signal(signal.SIGTERM, self._on_sigterm)
        while self.worker.poll():
            time.sleep(POLL_SECONDS)
        if self.preempted and self.worker.ended == "stopped":
            # A preempted job that ended during its grace period would not be requeued.
            deadline = time.time() + GRACE_SECONDS
            while time.time() < deadline and _state(job) == "RUNNING":
                time.sleep(1)
            sys.exit(EXIT_PREEMPTED)  # without a result, which the requeued job writes
        return self.worker.outcome()

    def _on_sigterm(self, number, frame) -> None:
        self.preempted = True
        if self.worker:
            self.worker.stopping = True

    def checkpoint(self):
        """Let the worker save near the time limit; submitit calls this, then requeues the job."""
        from submitit.helpers import DelayedSubmission

        if self.worker and not self.worker.ended:
            self.worker.stop()
            # not Popen.wait, whose lock the interrupted code may hold
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.worker.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self.workdir, self.launch_id))


def outcome_path(folder: Path, job: str) -> Path:
    """Return the file of a job's outcome, which its first task writes."""
    return folder / f"{job}_outcome.json"


def _job_id() -> str:
    job = os.environ.get("SLURM_ARRAY_JOB_ID", "")
    return f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ["SLURM_JOB_ID"]


def _state(job: str) -> str:
    """Return the state of a job; "" if it has left the queue or squeue fails."""
    query = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True
    )
    return query.stdout.strip()
