"""What a Slurm job runs: one worker as a child process, which saves when Slurm stops the job.

A job of several nodes runs one on each; their workers find each other by Slurm's variables.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Outcome, Worker
from scaling.utils.errors import EXIT_PREEMPTED

GRACE_SECONDS = 600  # longest wait of a preempted job, its worker saved, for its end


class Task:
    """What a job runs: one worker until the sweep has nothing left; submitit pickles it."""

    def __init__(self, workdir: Path | str, launch_id: str):
        self.workdir, self.launch_id = workdir, launch_id
        self.worker: Worker | None = None
        self.told = False

    def __call__(self) -> Outcome:
        job = os.environ.get("SLURM_ARRAY_JOB_ID", "")
        job = f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}" if job else os.environ["SLURM_JOB_ID"]
        rank = int(os.environ.get("SLURM_PROCID", 0))  # of the nodes that train each run together
        name = f"slurm{job}" + (f"-node{rank}" if rank else "")
        # on several nodes Slurm's own variables say where the others are
        env = (
            {"SCALING_PROCESSES": ""} if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 else {}
        )
        self.worker = Worker(name, self.workdir, self.launch_id, env=env)
        # Slurm sends SIGTERM to all processes of a job that it stops, to the worker too
        signal.signal(signal.SIGTERM, self._on_sigterm)
        while self.worker.poll():
            time.sleep(POLL_SECONDS)
        if self.told and self.worker.ended == "stopped":
            # A preempted job that ended during its grace period would not be requeued.
            deadline = time.time() + GRACE_SECONDS
            while time.time() < deadline and _state(job) == "RUNNING":
                time.sleep(1)
            sys.exit(EXIT_PREEMPTED)  # no result is written, so that the requeued job writes it
        return self.worker.outcome()

    def _on_sigterm(self, number, frame) -> None:
        self.told = True
        if self.worker:
            self.worker.stopping = True

    def checkpoint(self):
        """submitit's hook when the time limit nears: have the worker save; the job is requeued after."""
        from submitit.helpers import DelayedSubmission

        if self.worker and not self.worker.ended:
            self.worker.stop()
            # not Popen.wait, whose lock the code that this signal interrupted may hold
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self.worker.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self.workdir, self.launch_id))


def _state(job: str) -> str:
    """State of a job, "" where it is none any more or squeue fails."""
    done = subprocess.run(
        ["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True
    )
    return done.stdout.strip()
