"""Check that all processes of a run are present, numbered once, with equal configs.

JAX's coordination service ends a process with a stack trace if another one is missing. So process 0
first listens on the coordinator's port itself, one connection and one line of JSON per process, and
answers all of them with the same verdict. Then the port is free for JAX.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from scaling.utils import files
from scaling.utils.errors import UserError, one_line

RETRY_SECONDS = 0.1
GREETING_SECONDS = 5.0  # longest wait for the line of a connected process
LINE_BYTES = 1 << 20  # of such a line


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

    @property
    def listen_address(self) -> tuple[str, int]:
        """Where process 0 listens: `address`, or all interfaces if its name is for loopback only.

        Debian gives a machine's own name a loopback address, which other machines cannot reach.
        """
        host, port = self.address
        try:
            found = {info[4][0] for info in socket.getaddrinfo(host, port)}
        except OSError:  # the socket will say so
            return host, port
        loopback = all(ipaddress.ip_address(str(a).split("%")[0]).is_loopback for a in found)
        if not loopback or host == "localhost" or host in found:
            return host, port
        return "::" if socket.has_dualstack_ipv6() else "0.0.0.0", port

    @property
    def bind_address(self) -> str:
        """`listen_address` as host:port, for JAX's service."""
        host, port = self.listen_address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def meet(rank: ProcessRank, facts: dict[str, Any], seconds: float) -> dict[int, socket.socket]:
    """Wait until all processes have connected with equal `facts` (flat, of JSON values).

    Returns the open connections: to all others on process 0, to process 0 on the others.

    Raises UserError, the same on every connected process, if one is missing after `seconds`,
    connects twice or differs in a fact.
    """
    facts = json.loads(json.dumps(facts, default=list))  # tuples become lists, as for the others
    deadline = time.monotonic() + seconds
    if rank.process == 0:
        return _gather(rank, facts, deadline, seconds)
    return _report(rank, facts, deadline, seconds)


def _gather(
    rank: ProcessRank, facts: dict[str, Any], deadline: float, seconds: float
) -> dict[int, socket.socket]:
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
            if not _is_greeting(greeting):
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
        stack.pop_all()
        server.close()
    return {k: peer for k, (peer, _) in connected.items()}


def _report(
    rank: ProcessRank, facts: dict[str, Any], deadline: float, seconds: float
) -> dict[int, socket.socket]:
    greeting = {"process": rank.process, "processes": rank.processes, "facts": facts}
    reason = "no time to try"
    while time.monotonic() < deadline:
        try:
            left = max(0.01, deadline - time.monotonic())
            peer = socket.create_connection(rank.address, timeout=left)
            peer.settimeout(seconds + 2 * GREETING_SECONDS)  # process 0 may have come later
            peer.sendall((json.dumps(greeting) + "\n").encode())
            answer = _read(peer)
            if isinstance(answer, dict) and isinstance(answer.get("verdict"), str):
                if answer["verdict"]:
                    raise UserError(one_line(answer["verdict"]))
                return {0: peer}
            peer.close()
            reason = "something else answers there"
        except OSError as error:
            reason = error.strerror or str(error)
        time.sleep(RETRY_SECONDS)
    raise UserError(
        f"coordinator {rank.coordinator} cannot be reached within {seconds:.0f} s ({reason}); "
        "process 0 must run there, and its port must be open to the others"
    )


def _listen(rank: ProcessRank, deadline: float) -> socket.socket:
    """Listen where JAX's service will; wait for an earlier process to end."""
    host, port = rank.listen_address
    while True:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            dual = host == "::" and socket.has_dualstack_ipv6()
            return socket.create_server(
                (host, port), family=family, dualstack_ipv6=dual, backlog=rank.processes
            )
        except OSError as error:
            elsewhere = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
            if elsewhere or time.monotonic() > deadline:
                fix = "give an address of its machine" if elsewhere else "choose another port"
                raise UserError(
                    f"--coordinator={rank.coordinator}: process 0 cannot listen there "
                    f"({error.strerror}); {fix}"
                ) from error
            time.sleep(RETRY_SECONDS)


def _read(peer: socket.socket) -> Any:
    """Read one line of JSON within the socket's timeout, and no more; None for anything else."""
    line, end = b"", time.monotonic() + (peer.gettimeout() or GREETING_SECONDS)
    try:
        while not line.endswith(b"\n") and len(line) < LINE_BYTES:
            peer.settimeout(max(0.01, end - time.monotonic()))
            waiting = peer.recv(LINE_BYTES, socket.MSG_PEEK)
            if not waiting:
                break
            line += peer.recv(waiting.find(b"\n") + 1 or len(waiting))
        return files.parse(line)
    except (OSError, ValueError):
        return None


def _is_greeting(line: Any) -> bool:
    """Return whether a line that was read is of a process of a run."""
    if not isinstance(line, dict) or not isinstance(line.get("facts"), dict):
        return False
    return type(line.get("process")) is int and type(line.get("processes")) is int


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
                f"{key[:100]} is {str(facts.get(key))[:100]} on process 0 and "
                f"{str(theirs.get(key))[:100]} on process {k}"
                for key in keys[:3]
            )
            more = f", and {len(keys) - 3} more" if len(keys) > 3 else ""
            return f"processes disagree on the config: {shown}{more}"
    return ""


def _names(processes: list[int]) -> str:
    shown = ", ".join(map(str, processes[:8])) + (", ..." if len(processes) > 8 else "")
    return f"{'number' if len(processes) == 1 else 'numbers'} {shown}"
