"""Check that all processes of a run are present, numbered once, with equal configs.

JAX's coordination service ends a process with a stack trace if another one is missing. So process 0
first listens on the coordinator's port itself, one connection and one line of JSON per process, and
answers all of them with the same verdict. Then the port is free for JAX.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from scaling.utils.errors import UserError

RETRY_SECONDS = 0.1
GREETING_SECONDS = 5.0  # longest wait for the line of a connected process


@dataclass(frozen=True)
class ProcessRank:
    """One process among several that train a run together."""

    coordinator: str  # host:port at which process 0 listens
    processes: int  # their number
    process: int  # the number of this one, from 0

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def meet(rank: ProcessRank, facts: dict[str, Any], seconds: float) -> None:
    """Return once all processes have connected with equal `facts` (flat, of JSON values).

    Raises UserError, the same on every connected process, if one is missing after `seconds`,
    connects twice or differs in a fact.
    """
    facts = json.loads(json.dumps(facts, default=list))  # tuples become lists, as for the others
    deadline = time.monotonic() + seconds
    if rank.process == 0:
        _gather(rank, facts, deadline, seconds)
    else:
        _report(rank, facts, deadline, seconds)


def _gather(rank: ProcessRank, facts: dict[str, Any], deadline: float, seconds: float) -> None:
    connected: dict[int, tuple[socket.socket, dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(rank, deadline))
        verdict = ""
        while not verdict and len(connected) < rank.processes - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                peer = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = sorted({*range(1, rank.processes)} - set(connected))
                verdict = (
                    f"{rank.coordinator}: of {rank.processes} processes {_names(missing)} did not "
                    f"come within {seconds:.0f} s; start every process with the same coordinator "
                    "and number of processes"
                )
                break
            peer.settimeout(GREETING_SECONDS)
            greeting = _read(peer)
            if not isinstance(greeting, dict) or "process" not in greeting:
                continue  # not a process of this run
            k = greeting["process"]
            if k in connected and not _has_left(connected[k][0]):
                verdict = f"--process={k} was given to two processes; number them from 0"
            connected[k] = (peer, greeting)
        verdict = verdict or _difference(rank, facts, {k: g for k, (_, g) in connected.items()})
        for peer, _ in connected.values():
            with contextlib.suppress(OSError):  # it has ended, which shows soon enough
                peer.sendall((json.dumps({"verdict": verdict}) + "\n").encode())
    if verdict:
        raise UserError(verdict)


def _report(rank: ProcessRank, facts: dict[str, Any], deadline: float, seconds: float) -> None:
    greeting = {"process": rank.process, "processes": rank.processes, "facts": facts}
    reason = "no time to try"
    while time.monotonic() < deadline:
        try:
            left = max(0.01, deadline - time.monotonic())
            with socket.create_connection(rank.address, timeout=left) as peer:
                peer.settimeout(seconds + 2 * GREETING_SECONDS)  # process 0 may have come later
                peer.sendall((json.dumps(greeting) + "\n").encode())
                answer = _read(peer)
            if isinstance(answer, dict) and "verdict" in answer:
                if answer["verdict"]:
                    raise UserError(answer["verdict"])
                return
            reason = "something else answers there"
        except OSError as error:
            reason = error.strerror or str(error)
        time.sleep(RETRY_SECONDS)
    raise UserError(
        f"coordinator {rank.coordinator} cannot be reached within {seconds:.0f} s ({reason}); "
        "process 0 must run there, and its port must be open to the others"
    )


def _listen(rank: ProcessRank, deadline: float) -> socket.socket:
    """Listen on all interfaces, as JAX's service will; wait for an earlier process to end."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    while True:
        try:
            return socket.create_server(
                ("", rank.address[1]), family=family, dualstack_ipv6=dual, backlog=rank.processes
            )
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"--coordinator={rank.coordinator}: process 0 cannot listen there "
                    f"({error.strerror}); choose another port"
                ) from error
            time.sleep(RETRY_SECONDS)


def _read(peer: socket.socket) -> Any:
    """Read one line of JSON; None for anything else."""
    try:
        with peer.makefile("rb") as lines:
            return json.loads(lines.readline())
    except (OSError, ValueError):
        return None


def _has_left(peer: socket.socket) -> bool:
    """Return whether a connected process has ended since."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        peer.settimeout(GREETING_SECONDS)


def _difference(
    rank: ProcessRank, facts: dict[str, Any], greetings: dict[int, dict[str, Any]]
) -> str:
    """Name the difference between the processes in one line; "" if they agree."""
    for k, greeting in sorted(greetings.items()):
        if greeting["processes"] != rank.processes or not 0 < k < rank.processes:
            return (
                f"process 0 expects {rank.processes} processes, process {k} expects "
                f"{greeting['processes']}; give all of them the same number, and each its own "
                "below it"
            )
        theirs = greeting["facts"]
        keys = [key for key in {**facts, **theirs} if facts.get(key) != theirs.get(key)]
        if keys:
            shown = ", ".join(
                f"{key} is {facts.get(key)} on process 0 and {theirs.get(key)} on process {k}"
                for key in keys[:3]
            )
            more = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
            return f"processes disagree on the config: {shown}{more}"
    return ""


def _names(processes: list[int]) -> str:
    shown = ", ".join(map(str, processes[:8])) + (", ..." if len(processes) > 8 else "")
    return f"{'number' if len(processes) == 1 else 'numbers'} {shown}"
