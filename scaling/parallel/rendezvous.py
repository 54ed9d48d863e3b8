"""Processes meet before they train one run together: all there, numbered once, with equal configs.

JAX's coordination service ends a process with a stack trace where another one does not come. So process
0 first listens on the coordinator's port itself, one connection and one line of JSON per process, and
tells all of them the same verdict; then the port is free for JAX.
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
GREETING_SECONDS = 5.0  # longest wait for the line of somebody who has connected


@dataclass(frozen=True)
class Place:
    """One process among several: where process 0 listens, how many there are, which one this is."""

    coordinator: str  # host:port
    processes: int
    process: int

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.coordinator.rpartition(":")
        return host.strip("[]"), int(port)


def meet(place: Place, facts: dict[str, Any], seconds: float) -> None:
    """Return once all processes have come with equal `facts` (flat, of JSON values).

    Raises UserError, the same on every process that came, where one is missing after `seconds`, comes
    twice or differs in a fact.
    """
    facts = json.loads(json.dumps(facts, default=list))  # tuples become lists, as for the others
    deadline = time.monotonic() + seconds
    if place.process == 0:
        _gather(place, facts, deadline, seconds)
    else:
        _report(place, facts, deadline, seconds)


def _gather(place: Place, facts: dict[str, Any], deadline: float, seconds: float) -> None:
    came: dict[int, tuple[socket.socket, dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(place, deadline))
        verdict = ""
        while not verdict and len(came) < place.processes - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                peer = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = sorted({*range(1, place.processes)} - set(came))
                verdict = (
                    f"{place.coordinator}: of {place.processes} processes {_names(missing)} did not come "
                    f"within {seconds:.0f} s; start every process with the same coordinator and number of "
                    "processes"
                )
                break
            peer.settimeout(GREETING_SECONDS)
            greeting = _read(peer)
            if not isinstance(greeting, dict) or "process" not in greeting:
                continue  # no process of ours
            k = greeting["process"]
            if k in came and not _left(came[k][0]):
                verdict = f"--process={k} was given to two processes; number them from 0"
            came[k] = (peer, greeting)
        verdict = verdict or _difference(place, facts, {k: g for k, (_, g) in came.items()})
        for peer, _ in came.values():
            with contextlib.suppress(OSError):  # it is gone, which shows soon enough
                peer.sendall((json.dumps({"verdict": verdict}) + "\n").encode())
    if verdict:
        raise UserError(verdict)


def _report(place: Place, facts: dict[str, Any], deadline: float, seconds: float) -> None:
    greeting = {"process": place.process, "processes": place.processes, "facts": facts}
    why = "no time to try"
    while time.monotonic() < deadline:
        try:
            left = max(0.01, deadline - time.monotonic())
            with socket.create_connection(place.address, timeout=left) as peer:
                peer.settimeout(seconds + 2 * GREETING_SECONDS)  # process 0 may have come later
                peer.sendall((json.dumps(greeting) + "\n").encode())
                answer = _read(peer)
            if isinstance(answer, dict) and "verdict" in answer:
                if answer["verdict"]:
                    raise UserError(answer["verdict"])
                return
            why = "something else answers there"
        except OSError as error:
            why = error.strerror or str(error)
        time.sleep(RETRY_SECONDS)
    raise UserError(
        f"coordinator {place.coordinator} cannot be reached within {seconds:.0f} s ({why}); process 0 must "
        "run there, and its port be open to the others"
    )


def _listen(place: Place, deadline: float) -> socket.socket:
    """On all interfaces, as JAX's service will; an earlier process there gets time to end."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    while True:
        try:
            return socket.create_server(
                ("", place.address[1]), family=family, dualstack_ipv6=dual, backlog=place.processes
            )
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"--coordinator={place.coordinator}: process 0 cannot listen there "
                    f"({error.strerror}); choose another port"
                ) from error
            time.sleep(RETRY_SECONDS)


def _read(peer: socket.socket) -> Any:
    """One line of JSON; None where something else, or nothing, came."""
    try:
        with peer.makefile("rb") as lines:
            return json.loads(lines.readline())
    except (OSError, ValueError):
        return None


def _left(peer: socket.socket) -> bool:
    """Whether a process that had come has ended since."""
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        peer.settimeout(GREETING_SECONDS)


def _difference(place: Place, facts: dict[str, Any], came: dict[int, dict[str, Any]]) -> str:
    """In what the processes differ, in one line; "" where they agree."""
    for k, greeting in sorted(came.items()):
        if greeting["processes"] != place.processes or not 0 < k < place.processes:
            return (
                f"process 0 was told of {place.processes} processes, process {k} of "
                f"{greeting['processes']}; give all of them the same number, and each its own below it"
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
