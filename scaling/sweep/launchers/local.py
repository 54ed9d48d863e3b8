"""Run workers on this machine, each on its share of the cores and GPUs, and restart dead ones."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Worker, summary
from scaling.utils import signals
from scaling.utils.errors import UserError
from scaling.utils.machine import visible_cores


def launch(
    options, workdir: Path, launch_id: str, workers: int, on_wait: Callable[[], None]
) -> list[str]:
    """Run local workers, see `scaling.sweep.launchers.launch`. `options` is config.launch.

    SIGTERM and SIGINT are forwarded, and the launcher waits while the workers save. A second
    Ctrl-C ends the launcher at once. If the launcher is killed, Linux sends its workers SIGTERM.
    """
    cores, gpus = shares(visible_cores(), workers), visible_gpus()
    started: list[Worker] = []
    with signals.listening():
        try:
            for k in range(workers):
                env = gpu_env(gpus, k, workers)
                started.append(Worker(f"worker{k}", workdir, launch_id, cores[k], env))
            wait(started, on_wait)
            signals.check()
        except BaseException:
            for worker in started:
                worker.stop()
            raise
    return summary([worker.outcome() for worker in started])


def wait(workers: Sequence[Worker], on_wait: Callable[[], None]) -> None:
    """Wait until all workers have ended. Forward a signal once, also to workers yet to restart."""
    while sum(worker.poll() for worker in workers):  # a sum, so that each worker is polled
        if signals.caught():
            break
        on_wait()
        time.sleep(POLL_SECONDS)
    else:
        return
    for worker in workers:
        worker.stop()
    with signals.saving():  # each worker bounds its own end
        while sum(worker.poll() for worker in workers):
            time.sleep(POLL_SECONDS)


def shares(items: Sequence, parts: int) -> list[list]:
    """Cut `items` into `parts` slices of nearly equal length; share single items if too few."""
    if len(items) < parts:
        return [[items[k % len(items)]] if items else [] for k in range(parts)]
    cuts = [len(items) * k // parts for k in range(parts + 1)]
    return [list(items[a:b]) for a, b in itertools.pairwise(cuts)]


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Raises UserError if the driver's tool is installed but fails.
    """
    listed_gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed_gpus is not None:
        return [gpu for gpu in listed_gpus.split(",") if gpu and gpu != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    try:
        query = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(
            "nvidia-smi is installed and does not answer; set CUDA_VISIBLE_DEVICES to the GPUs to "
            f'use, or to "" for none ({error})'
        ) from error
    return query.stdout.split()


def gpu_env(gpus: Sequence[str], k: int, workers: int) -> dict[str, str]:
    """Return the variables that give worker `k` its GPUs; workers on one GPU share its memory."""
    if not gpus:
        return {}
    env = {"CUDA_VISIBLE_DEVICES": ",".join(shares(gpus, workers)[k])}
    if workers > len(gpus):
        env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    return env
