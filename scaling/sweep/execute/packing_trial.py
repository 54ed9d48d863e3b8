"""A trial of two ways to train a sweep on a CPU host: in one process with all cores, or by workers with a share each.

Tiny runs cannot use several cores: what is waited for are threads, not numbers. A few of their real steps are timed
in this process, first on all cores, then on one worker's share while the other shares are kept busy.
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
from scaling.utils.errors import Preempted

# the groups of runs of equal shape that are tried: where these shares of all FLOPs are reached, by size
TRIED = (0.25, 0.75)
MOST_WORKERS = 8
CLEARLY = 0.8  # of the time in one process, at most, for workers: they have to start, and compile each for itself

# Products of matrices that lie in a core's cache, for as long as its parent, whose id it is given, lives.
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

    here: float  # in this process, with all cores
    apart: float  # one run after another, on one worker's share of the cores


def workers(parts: Sequence[JobRun], packs: Mapping[str, int], cores: Sequence[int]) -> int:
    """How many workers take clearly less time than this process, 1 where none do or a trial fails.

    `packs` are the runs per program of this process, `cores` those that it may use. Prints what it found.
    """
    count = min(MOST_WORKERS, len(cores), len(parts))
    if count < 2 or not hasattr(os, "sched_setaffinity"):
        return 1
    try:
        costs = [
            _cost(alike, packs[key], shares(cores, count)) for key, alike in representative(parts)
        ]
        count = min(
            count,
            int(_memory_left() // (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)),
        )
    except Preempted:
        raise
    except Exception as error:  # without a trial the sweep goes as it did, and says its own errors
        print(f"warning: workers were not tried: {' '.join(str(error).split())[:200]}", flush=True)
        return 1
    if count < 2:
        return 1
    every, largest = sum(part.flops for part in parts), max(part.flops for part in parts)
    ratio = best_case(costs, count, largest / every)
    chosen = count if ratio < CLEARLY else 1
    runs = f"{chosen} workers, each on its share of the cores" if chosen > 1 else "one process"
    print(f"schedule: {runs} ({count} workers would take {ratio:.2f} of its time)", flush=True)
    return chosen


def best_case(costs: Iterable[Cost], count: int, largest: float) -> float:
    """Time of `count` workers over that of this process, where groups not in `costs` are like those in it.

    `largest` is the largest run's share of all FLOPs: nobody shares in it at the end.
    """
    costs = list(costs)
    apart = sum(cost.apart for cost in costs) * max(1 / count, largest)
    return apart / sum(cost.here for cost in costs)


def representative(parts: Sequence[JobRun]) -> list[tuple[str, list[JobRun]]]:
    """The groups of `jobs.groups` that are tried."""
    groups = sorted(jobs.groups(parts), key=lambda group: group[1][0].run.n_params)
    total, reached = sum(part.flops for part in parts), 0.0
    found = {}
    for key, alike in groups:
        before, reached = reached, reached + sum(part.flops for part in alike)
        if any(before <= share * total < reached for share in TRIED):
            found[key] = alike
    return list(found.items())


def _cost(alike: Sequence[JobRun], pack: int, parted: Sequence[Sequence[int]]) -> Cost:
    import jax

    from scaling.training import benchmark

    config, devices = alike[0].run.config, jax.local_device_count()
    runs = min(pack, len(alike))
    here = alone = benchmark.measure(config)  # compiled with all cores
    if runs > 1:
        here = benchmark.measure(config, -(-runs // devices) * devices)
    with _busy(parted[1:]), _limited_to(parted[0]):
        share = benchmark.measure(config)
    tokens = sum(part.tokens for part in alike)
    return Cost(
        here=tokens / here.tokens_per_second + len(alike) * _besides(alone),
        apart=tokens / share.tokens_per_second + len(alike) * _besides(share),
    )


def _besides(size) -> float:
    """Seconds of a run besides its steps, at least: an evaluation and a checkpoint."""
    return size.evaluation_seconds + size.checkpoint_seconds


@contextlib.contextmanager
def _busy(parted: Sequence[Sequence[int]]) -> Iterator[None]:
    """Something computes on each of these cores."""
    with contextlib.ExitStack() as stack:
        for core in (core for share in parted for core in share):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BUSY, str(os.getpid())],
                    env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                )
            )
            stack.callback(process.kill)  # before it is waited for
            os.sched_setaffinity(process.pid, {core})
        yield


@contextlib.contextmanager
def _limited_to(cores: Sequence[int]) -> Iterator[None]:
    """All threads of this process, and those that they start, run on these cores alone."""
    before = os.sched_getaffinity(0)
    try:
        _confine(set(cores))
        yield
    finally:
        _confine(before)


def _confine(cores: set[int]) -> None:
    """Until no thread is found elsewhere: one that starts meanwhile has what its parent had."""
    found = True
    while found:
        found = False
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended
                if os.sched_getaffinity(int(thread.name)) != cores:
                    os.sched_setaffinity(int(thread.name), cores)
                    found = True


def _memory_left() -> float:
    """Bytes that more processes may take: of the machine, or of a container that has less."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    bounds = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    with contextlib.suppress(OSError, ValueError):  # "max" is no number
        bounds.append(float(limit.read_text()) - float(used.read_text()))
    return min(bounds)
