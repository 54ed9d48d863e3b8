"""Run workers as Ray tasks on any machines that see the workdir at the same path or URL.

A task runs one worker as a child process, with the cores, GPUs and custom resources of
config.launch. If the cluster loses a machine, Ray restarts its tasks on another one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Outcome, Worker, summary, unknown_folder
from scaling.sweep.shared import workdir_url
from scaling.utils import signals
from scaling.utils.errors import UserError, one_line

MAX_LOSSES = 20  # machines that a task may lose before it is given up


def launch(
    options, workdir: Path, launch_id: str, workers: int, on_wait: Callable[[], None]
) -> list[str]:
    """Run workers as Ray tasks, see `scaling.sweep.launchers.launch`. `options` is config.launch.

    A signal stops the tasks after their workers saved. If the launcher is killed, Ray ends its
    tasks, and Linux sends their workers SIGTERM.
    """
    ray = _ray()
    needs = {
        "num_cpus": options.cores,
        "num_gpus": options.gpus,
        "resources": dict(options.resources),
    }
    with signals.listening():
        _connect(ray, options.address, unknown_folder() or workdir)
        signals.reinstall()  # ray.init replaces the handlers
        try:
            _check(ray, options.address, needs)
            task = ray.remote(max_retries=MAX_LOSSES, **needs)(work)
            refs = [
                task.remote(workdir_url.open_workdir(workdir).name, launch_id, f"ray{k}")
                for k in range(workers)
            ]
            outcomes = _wait(ray, refs, on_wait)
        finally:
            ray.shutdown()
        signals.check()
    return summary(outcomes)


def work(workdir: str, launch_id: str, name: str) -> Outcome:
    """Run one worker until the sweep has no work left; when cancelled, let it save first."""
    worker = Worker(name, workdir, launch_id)
    try:
        while worker.poll():
            time.sleep(POLL_SECONDS)
    except (KeyboardInterrupt, SystemExit):  # ray.cancel
        worker.stop()
        while worker.poll():
            time.sleep(POLL_SECONDS)
        raise
    return worker.outcome()


def _wait(ray, refs, on_wait) -> list[Outcome]:
    """Wait until all tasks have ended; a signal cancels them once."""
    running = list(refs)
    while running and not signals.caught():
        _, running = ray.wait(running, num_returns=len(running), timeout=POLL_SECONDS)
        on_wait()
    for ref in running:
        ray.cancel(ref, force=False)
    with signals.saving():  # each worker bounds its own end
        while running:
            _, running = ray.wait(running, num_returns=len(running), timeout=POLL_SECONDS)
    return [_outcome(ray, ref, k) for k, ref in enumerate(refs)]


def _outcome(ray, ref, k: int) -> Outcome:
    try:
        return ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return Outcome([])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, UserError):
            return Outcome([], refusal=str(cause))
        return Outcome([f"ray{k} was lost: {str(error).strip().splitlines()[-1][:300]}"])


def _ray():
    """Import Ray. Raises UserError if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "config.launch.kind=ray needs the package ray; pip install 'scaling[ray]'"
        ) from error
    return ray


def _connect(ray, address: str, folder: Path) -> None:
    """Join the cluster at `address`, or start one on this machine if that is "".

    Its tasks import modules of the current folder before installed ones, so `folder` is that one
    meanwhile. Raises UserError if no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with contextlib.chdir(folder):
            ray.init(
                address=address or "local",
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level="ERROR",
            )
    except Exception as error:  # ray raises ConnectionError, ValueError, RuntimeError and others
        reason = one_line(error, 300)
        raise UserError(
            f"config.launch.address={address!r}: no Ray cluster could be joined or started "
            f"({reason}); start one with `ray start --head`, or leave the address empty"
        ) from error


def _check(ray, address: str, needs: dict) -> None:
    """Raise UserError if no machine of the cluster has the resources of one worker."""
    requested = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], **needs["resources"]}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, amount in requested.items():
        most = max((machine.get(name, 0) for machine in machines), default=0)
        if amount > most:
            key = {"CPU": "cores", "GPU": "gpus"}.get(name, "resources")
            raise UserError(
                f"config.launch.{key}: a worker requests {amount:g} {name}, and no machine of the "
                f"Ray cluster {address or 'here'} has more than {most:g}; lower it"
            )
