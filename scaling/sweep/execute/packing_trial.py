"""Time two ways to train a sweep on a CPU host: one process on all cores, or workers on shares.

Tiny runs cannot use several cores: they wait for threads, not for arithmetic. This module times a
few of their real steps in this process, first on all cores, then on one worker's share of the
cores while the other shares are busy.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.sweep.execute import jobs
from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.launchers.local import shares
from scaling.utils.errors import one_line

# Only the groups of runs at these shares of all FLOPs, in order of size, are timed.
TRIED_SHARES = (0.25, 0.75)
MAX_WORKERS = 8
# Workers must need at most this share of the time of one process: each starts and compiles anew.
MAX_RATIO = 0.8

# Multiply matrices that fit in a core's cache until the parent, given by its id, ends.
BUSY = """
import os, sys
import numpy as np

x = np.ones((256, 256), np.float32)
while os.getppid() == int(sys.argv[1]):
    x @ x
"""


@dataclass(frozen=True)
class Cost:
    """Seconds of a group of runs of equal shape."""

    one_process: float  # in this process, with all cores
    one_worker: float  # one run after another, on one worker's share of the cores


def workers(job_runs: Sequence[JobRun], packs: Mapping[str, int], cores: Sequence[int]) -> int:
    """Return a number of workers that is clearly faster than this process, else 1; print it.

    `packs`: runs per program in this process. `cores`: the cores that it may use. A trial that
    fails returns 1.
    """
    count = min(MAX_WORKERS, len(cores), len(job_runs))
    if count < 2 or not hasattr(os, "sched_setaffinity"):
        return 1
    try:
        costs = [
            _cost(group, packs[key], shares(cores, count))
            for key, group in representative(job_runs)
        ]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        count = min(count, int(_memory_left() // memory))
    except Exception as error:  # train without workers, and report the training's own errors
        reason = one_line(error, 200)
        print(f"warning: workers were not tried: {reason}", file=sys.stderr, flush=True)
        return 1
    if count < 2:
        return 1
    total, largest = (
        sum(job_run.flops for job_run in job_runs),
        max(job_run.flops for job_run in job_runs),
    )
    ratio = best_case(costs, count, largest / total)
    chosen = count if ratio < MAX_RATIO else 1
    runs = f"{chosen} workers, each on its share of the cores" if chosen > 1 else "one process"
    line = f"packing: {runs} ({count} workers would take {ratio:.2f} of its time)"
    print(line, file=sys.stderr, flush=True)
    return chosen


def best_case(costs: Iterable[Cost], count: int, largest: float) -> float:
    """Return the time of `count` workers over that of this process, if all groups are like `costs`.

    `largest` is the largest run's share of all FLOPs, which one worker trains alone.
    """
    costs = list(costs)
    workers = sum(cost.one_worker for cost in costs) * max(1 / count, largest)
    return workers / sum(cost.one_process for cost in costs)


def representative(job_runs: Sequence[JobRun]) -> list[tuple[str, list[JobRun]]]:
    """Return the groups of `jobs.groups` that are timed."""
    groups = sorted(jobs.groups(job_runs), key=lambda group: group[1][0].run.n_params)
    total, end = sum(job_run.flops for job_run in job_runs), 0.0
    chosen = {}
    for key, group in groups:
        start, end = end, end + sum(job_run.flops for job_run in group)
        if any(start <= share * total < end for share in TRIED_SHARES):
            chosen[key] = group
    return list(chosen.items())


def _cost(group: Sequence[JobRun], pack: int, core_shares: Sequence[Sequence[int]]) -> Cost:
    import jax

    from scaling.training import benchmark

    config, devices = group[0].run.config, jax.local_device_count()
    runs = min(pack, len(group))
    packed = single = benchmark.measure(config)  # compiled with all cores
    if runs > 1:
        packed = benchmark.measure(config, -(-runs // devices) * devices)
    with _load_cores(core_shares[1:]), _limit_to(core_shares[0]):
        worker = benchmark.measure(config)
    tokens = sum(job_run.tokens for job_run in group)
    return Cost(
        one_process=tokens / packed.tokens_per_second + len(group) * _overhead(single),
        one_worker=tokens / worker.tokens_per_second + len(group) * _overhead(worker),
    )


def _overhead(size) -> float:
    """Return the least seconds of a run outside its steps: one evaluation and one checkpoint."""
    return size.evaluation_seconds + size.checkpoint_seconds


@contextlib.contextmanager
def _load_cores(core_shares: Sequence[Sequence[int]]) -> Iterator[None]:
    """Keep each of these cores busy."""
    with contextlib.ExitStack() as stack:
        for core in (core for share in core_shares for core in share):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", BUSY, str(os.getpid())],
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
            )
            stack.callback(process.kill)  # runs before the process's own exit, which waits
            os.sched_setaffinity(process.pid, {core})
        yield


@contextlib.contextmanager
def _limit_to(cores: Sequence[int]) -> Iterator[None]:
    """Run all threads of this process, and those that they start, on these cores only."""
    before = os.sched_getaffinity(0)
    try:
        _move_threads(set(cores))
        yield
    finally:
        _move_threads(before)


def _move_threads(cores: set[int]) -> None:
    """Move all threads to these cores; repeat, since a new thread inherits its parent's cores."""
    moved = True
    while moved:
        moved = False
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                if os.sched_getaffinity(int(thread.name)) != cores:
                    os.sched_setaffinity(int(thread.name), cores)
                    moved = True


def _memory_left() -> float:
    """Return the free bytes of the machine, or of the container if that has less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    bounds = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    with contextlib.suppress(OSError, ValueError):  # "max" is not a number
        bounds.append(float(limit.read_text()) - float(used.read_text()))
    return min(bounds)
