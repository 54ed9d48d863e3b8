"""Workers as Ray tasks, on any mixture of machines that see the workdir at the same path or URL.

A task holds one worker as a child process, with the cores, GPUs and custom resources of config.launch.
Where a machine of the cluster is lost, Ray starts its tasks again on another.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Outcome, Worker, summary
from scaling.sweep.shared import workdir_url
from scaling.utils.errors import Preempted, UserError, one_line
from scaling.utils.signals import StopSignal

MACHINES_LOST = 20  # a task's machine may be lost this often before the task is given up


def launch(
    options, workdir: Path, launch_id: str, workers: int, on_wait: Callable[[], None]
) -> list[str]:
    """See `scaling.sweep.launchers.launch`. `options` is config.launch.

    A signal stops the tasks, which let their workers save first. Where the launcher is killed, Ray ends
    its tasks, and Linux sends their workers SIGTERM.
    """
    ray = _ray()
    needs = {
        "num_cpus": options.cores or 1,
        "num_gpus": options.gpus,
        "resources": dict(options.resources),
    }
    # the outer one puts back the handlers that ray.init replaces
    with StopSignal().listening():
        _connect(ray, options.address)
        try:
            with StopSignal().listening() as stop:
                _check(ray, options.address, needs)
                task = ray.remote(max_retries=MACHINES_LOST, **needs)(work)
                refs = [
                    task.remote(workdir_url.open_workdir(workdir).name, launch_id, f"ray{k}")
                    for k in range(workers)
                ]
                outcomes = _wait(ray, refs, stop, on_wait)
        finally:
            ray.shutdown()
    if stop.caught:
        raise Preempted(stop.caught)
    return summary(outcomes)


def work(workdir: str, launch_id: str, name: str) -> Outcome:
    """The task: one worker until the sweep has nothing left. Cancelled, it lets the worker save."""
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


def _wait(ray, refs, stop: StopSignal, on_wait) -> list[Outcome]:
    """Until all tasks have ended; a signal cancels them once."""
    left, told = list(refs), False
    while left:
        _, left = ray.wait(left, num_returns=len(left), timeout=POLL_SECONDS)
        if stop.caught and not told:
            told = True
            for ref in left:
                ray.cancel(ref, force=False)
        on_wait()
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
    """The package. Raises UserError where it is missing."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "config.launch.kind=ray needs the package ray; pip install 'scaling[ray]'"
        ) from error
    return ray


def _connect(ray, address: str) -> None:
    """Join the cluster at `address`, or start one on this machine where that is "".

    Raises UserError where no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (
        Exception
    ) as error:  # ray raises many kinds here: ConnectionError, ValueError, RuntimeError
        reason = one_line(error, 300)
        raise UserError(
            f"config.launch.address={address!r}: no Ray cluster could be joined or started ({reason}); "
            "start one with `ray start --head`, or leave the address empty"
        ) from error


def _check(ray, address: str, needs: dict) -> None:
    """Raises UserError where no machine of the cluster has what one worker needs."""
    asked = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], **needs["resources"]}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, amount in asked.items():
        most = max((machine.get(name, 0) for machine in machines), default=0)
        if amount > most:
            key = {"CPU": "cores", "GPU": "gpus"}.get(name, "resources")
            raise UserError(
                f"config.launch.{key}: a worker asks for {amount:g} {name} and no machine of the Ray "
                f"cluster {address or 'here'} has more than {most:g}; lower it"
            )
