"""Notice at once when another process of a run ends, by connections kept from the rendezvous.

Process 0 holds one connection to each other process. The kernel closes it when a process is killed,
and its keepalive finds a lost machine. JAX would end the others too, after up to a minute or at
once, but by SIGABRT with a stack trace. So JAX's own connections to process 0 pass through a
forwarder here that hides from JAX that process 0 has ended.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Mapping

from scaling.utils import signals
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_LOST_PEER, EXIT_PREEMPTED

# Seconds of silence of a machine until the first probe, between probes, and the number of probes.
KEEPALIVE = (4, 2, 4)
ENDED = 0  # the code in a message of a process that ends as planned
REFUSED_SECONDS = 10.0  # for this process to end by itself after another one met bad input
MESSAGE_BYTES = 2048


def watch(rank, sockets: Mapping[int, socket.socket]) -> None:
    """End this process when another one ends before it said so. `sockets`: process -> connection.

    The exit code is EXIT_PREEMPTED if a signal came, here or there, else EXIT_LOST_PEER. Bad input
    that all processes see ends each by itself. If only another one does, this one ends after it.
    """
    for peer in sockets.values():
        peer.settimeout(None)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):  # Linux
            for option, value in zip(
                (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT),
                KEEPALIVE,
                strict=True,
            ):
                peer.setsockopt(socket.IPPROTO_TCP, option, value)

    def tell(code: int, line: str) -> None:
        for peer in sockets.values():
            with contextlib.suppress(OSError):
                peer.sendall(f"{code} {line}\n".encode()[:MESSAGE_BYTES])

    signals.before_forced_end(tell)
    signals.before_planned_end(
        lambda code: tell(EXIT_BAD_INPUT if code == EXIT_BAD_INPUT else ENDED, "")
    )
    threading.Thread(target=_read, args=(rank, sockets), name="peers", daemon=True).start()


def _read(rank, sockets: Mapping[int, socket.socket]) -> None:
    """Wait for messages and ends of the other processes."""
    with selectors.DefaultSelector() as selector:
        for k, peer in sockets.items():
            selector.register(peer, selectors.EVENT_READ, k)
        while selector.get_map():
            for key, _ in selector.select():
                try:
                    message = key.fileobj.recv(MESSAGE_BYTES).decode(errors="replace")  # type: ignore[union-attr]
                except OSError:  # reset, or unreachable by keepalive
                    message = ""
                code, _, line = message.partition("\n")[0].partition(" ")
                if code == str(ENDED):
                    selector.unregister(key.fileobj)
                    continue
                if signals.caught() or code == str(EXIT_PREEMPTED):
                    name = signals.caught() or f"a signal to process {key.data}"
                    signals.end_now(EXIT_PREEMPTED, signals.stopped_line(name))
                if code == str(EXIT_BAD_INPUT) and not line:  # not a forced end
                    time.sleep(REFUSED_SECONDS)
                    line = _refused_line(rank, key.data)
                signals.end_now(EXIT_LOST_PEER, line or _lost_line(rank, key.data))


def _refused_line(rank, k: int) -> str:
    return (
        f"error: process {rank.process} of {rank.processes}: process {k} has ended by an error of "
        "its own; mend what its output names, then the same command continues"
    )


def _lost_line(rank, k: int) -> str:
    return (
        f"error: process {rank.process} of {rank.processes}: another process of this run has ended "
        f"or cannot be reached (process {k}); the same command continues"
    )


def forward(address: tuple[str, int]) -> str:
    """Return a local host:port whose connections lead to `address` and outlive the other side."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            near, _ = server.accept()
            try:
                far = socket.create_connection(address)
            except OSError:
                near.close()  # JAX tries again, until its own limit
                continue
            for a, b in ((near, far), (far, near)):
                a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=_copy, args=(a, b), name="forward", daemon=True).start()

    threading.Thread(target=serve, name="forward", daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy bytes until a side ends; close nothing, so that the other side does not notice."""
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
