"""Collective operations of several processes that train one run together, joined by
jax.distributed.

Process 0 is the writer: it alone writes rows, results, tables and claims. If one process finds out
something alone (a signal, a lost claim, bad input), the others must learn it at the same point of
the program, since a process that waits for another in a collective would wait for ever. With one
process every operation here returns at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from ml_collections import ConfigDict

from scaling.config import hashing
from scaling.parallel import peers, rendezvous
from scaling.parallel.rendezvous import ProcessRank
from scaling.utils import machine, signals
from scaling.utils.errors import EXIT_LOST_PEER, EXIT_PREEMPTED, LostClaim, Preempted, UserError

# Longest wait until all processes have connected, unless $SCALING_WAIT_SECONDS states another.
WAIT_SECONDS = 300.0
# Silence after which JAX takes a process for dead. One that dies is noticed at once, through its
# connections.
HEARTBEAT_SECONDS = 60
START_SECONDS = 120  # for JAX's own start, once all have connected
PEER_SECONDS = 1.0  # in which the end of a process reaches the others
SHUTDOWN_SECONDS = 20  # longest wait for the others at the end
LINE_BYTES = 1024  # of an error line that the others get
LOST = 1000  # vote of a process whose claim is lost; other votes are numbers of signals
# May differ between hosts without changing what they do.
LOCAL_KEYS = ("data.cache_dir", "data.path")


def find_rank(
    coordinator: str, processes: str, process: str, env: Mapping[str, str] = os.environ
) -> ProcessRank | None:
    """Return this process's rank by flags, SCALING_* or Slurm variables, None if it is alone.

    Raises UserError if they are incomplete or contradict each other.
    """
    names = ("--coordinator", "--processes", "--process")
    given = (coordinator, processes, process)
    if not any(given):
        names = ("SCALING_COORDINATOR", "SCALING_PROCESSES", "SCALING_PROCESS_ID")
        given = tuple(env.get(name, "") for name in names)  # type: ignore[assignment]
    if not any(given):
        return _slurm_rank(env)
    if given[1] == "1":
        return None
    if missing := [name for name, value in zip(names, given, strict=True) if not value]:
        raise UserError(f"{', '.join(missing)} missing; several processes need all of {names}")
    host, _, port = given[0].rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{names[0]}={given[0]}: must be host:port, e.g. 10.0.0.1:1234")
    if not (given[1].isdecimal() and given[2].isdecimal()) or int(given[2]) >= int(given[1]):
        raise UserError(
            f"{names[2]}={given[2]}: must be a number from 0 to below {names[1]}={given[1]}"
        )
    return ProcessRank(given[0], int(given[1]), int(given[2]))


def _slurm_rank(env: Mapping[str, str]) -> ProcessRank | None:
    """Return the rank of a task of an `srun` of several. The job sets its port, as in JAX."""
    tasks = int(env.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks == 1:
        return None
    nodes = env["SLURM_STEP_NODELIST"]  # node1 | node1,node7 | node[003-005,9],other
    first, bracket, rest = nodes.split(",")[0].partition("[")
    if bracket:
        first += rest.rstrip("]").split("-")[0]
    port = 61440 + int(env["SLURM_JOB_ID"]) % 4096
    return ProcessRank(f"{first}:{port}", tasks, int(env["SLURM_PROCID"]))


def start(rank: ProcessRank | None, config: ConfigDict) -> None:
    """Join the other processes; must run before JAX first looks at its devices.

    Raises UserError on all processes if one is missing or has another config or version.
    """
    if rank is None:
        return
    seconds = float(os.environ.get("SCALING_WAIT_SECONDS", WAIT_SECONDS))
    facts = {**hashing.without(config, LOCAL_KEYS), "versions": machine.versions()}
    connections = rendezvous.meet(rank, {**facts, "commit": machine.commit()}, seconds)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    peers.watch(rank, connections)
    jax.distributed.initialize(
        peers.forward(rank.address) if rank.process else rank.coordinator,
        rank.processes,
        rank.process,
        coordinator_bind_address=rank.bind_address,
        cluster_detection_method="deactivate",  # under Slurm it takes one GPU per process
        initialization_timeout=START_SECONDS,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        shutdown_timeout_seconds=SHUTDOWN_SECONDS,
    )


def count() -> int:
    """Return the number of processes of this run."""
    jax: Any = sys.modules.get("jax")
    return jax.process_count() if jax and jax.distributed.is_initialized() else 1


def writer() -> bool:
    """Return whether this process is the one that writes files."""
    return count() == 1 or sys.modules["jax"].process_index() == 0


def exit_process(error: BaseException) -> NoReturn:
    """End this process soon, with one line: closing what the processes share could hang.

    A collective fails when a process has ended, which `peers` knows better: it ends this process.
    """
    time.sleep(PEER_SECONDS)
    if signals.caught():
        signals.end_now(EXIT_PREEMPTED, signals.stopped_line(signals.caught()))
    line = " ".join(f"{type(error).__name__}: {error}".split())[:400]
    name = f"process {sys.modules['jax'].process_index()} of {count()}"
    line = f"error: {name}: {line}; the same command continues"
    signals.end_now(EXIT_LOST_PEER, line)


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Around operations that all processes do together: an error of this one alone ends it."""
    try:
        yield
    except (UserError, LostClaim):  # all processes raise these together
        raise
    except Exception as error:
        if count() == 1:
            raise
        exit_process(error)


@contextlib.contextmanager
def raise_on_all() -> Iterator[None]:
    """Raise a UserError or Preempted of any process in this block on all of them, at its end."""
    if count() == 1:
        yield
        return
    mine: UserError | Preempted | None = None
    with guard():
        try:
            yield
        except (UserError, Preempted) as error:
            mine = error
        lines = _lines(f"{type(mine).__name__}:{mine}" if mine else "")
    if mine:
        raise mine
    for k, line in enumerate(lines):
        kind, _, text = line.partition(":")
        if kind:
            raise Preempted(text) if kind == "Preempted" else UserError(f"process {k}: {text}")


def assert_same_on_all(name: str, text: str) -> None:
    """Raise UserError on all processes if their `text`, called `name`, differs."""
    if count() == 1:
        return
    with guard():
        lines = _lines(text)
    for k, line in enumerate(lines):
        if line != lines[0]:
            raise UserError(
                f"processes disagree on the {name}: {lines[0]} on process 0, {line} on process {k}"
            )


def any_process(flag: bool) -> bool:
    """Return whether `flag` holds on any process, once all processes have called this function."""
    if count() == 1:
        return flag
    with guard():
        return bool(_highest()(int(flag)))


def _lines(line: str) -> list[str]:
    """Return the lines of all processes."""
    from jax.experimental import multihost_utils

    mine = np.zeros(LINE_BYTES, np.uint8)
    encoded = line.encode()[:LINE_BYTES]
    mine[: len(encoded)] = list(encoded)
    rows = multihost_utils.process_allgather(mine)
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in rows]


def sum_over_processes(values_L: np.ndarray) -> np.ndarray:
    """Return the sums of 64-bit whole numbers over all processes, modulo 2^64."""
    from jax.experimental import multihost_utils

    halves_PL2 = multihost_utils.process_allgather(values_L.view(np.uint32).reshape(-1, 2))
    return np.ascontiguousarray(halves_PL2).view(np.uint64)[..., 0].sum(axis=0, dtype=np.uint64)


def gather_whole(array: Any) -> np.ndarray:
    """Return an array that is split over the processes as a whole, on each of them."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def broadcast_from_writer(value: int) -> int:
    """Return the writer's value, on all processes."""
    if count() == 1:
        return value
    from jax.experimental import multihost_utils

    with guard():
        return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


class Agreement:
    """Decide with all processes, after every dispatch, whether to write its results and whether to
    stop.

    `check` may raise LostClaim. With several processes every call is a vote of all of them. Its
    outcome is awaited one call later, so that no device idles meanwhile, or at once with `now`.
    """

    def __init__(self, check: Callable[[], None] | None):
        self._check = check or (lambda: None)
        self._votes: list[Any] = []

    def __call__(self, now: bool, claims: bool = True) -> str:
        """Return the signal that any process caught, "" if none.

        With `claims` check the claim, too. Raises LostClaim on all.
        """
        if count() == 1:
            if claims:
                self._check()
            return signals.caught()
        lost: LostClaim | None = None
        try:
            if claims:
                self._check()
        except LostClaim as error:
            lost = error
        self._votes.append(_highest()(LOST if lost else _caught()))
        decided = 0
        while len(self._votes) > (0 if now else 1):
            decided = max(decided, int(self._votes.pop(0)))
        if decided == LOST:
            raise lost or LostClaim("another worker took the run over")
        return _name(decided)


def check_signals() -> None:
    """Raise Preempted on all processes once a signal reached one of them."""
    if count() > 1:
        with guard():
            decided = int(_highest()(_caught()))
        if decided:
            raise Preempted(_name(decided))
    signals.check()


def _caught() -> int:
    """Return the number of the signal that this process caught, 0 without one."""
    return signal.Signals[signals.caught()] if signals.caught() else 0


def _name(number: int) -> str:
    return signal.Signals(number).name if number else ""


@functools.cache
def _highest() -> Callable[[int], Any]:
    """Return a program that starts to compute the highest number of all processes."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.asarray(jax.devices()), ("device",))
    by_device = NamedSharding(mesh, PartitionSpec("device"))
    highest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def begin(number: int):
        mine = np.full(jax.local_device_count(), number, np.int32)
        return highest(jax.make_array_from_process_local_data(by_device, mine))

    return begin
