"""Connections between processes: one that ends is noticed, one that says so is not."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from scaling.parallel import peers
from scaling.utils.errors import EXIT_LOST_PEER, EXIT_PREEMPTED
from tests.common import ROOT

WATCHING = """
import socket, sys, time
from scaling.parallel import peers
from scaling.parallel.rendezvous import ProcessRank
from scaling.utils import signals
signals.install()
peers.REFUSED_SECONDS = 1.0
rank = ProcessRank(sys.argv[1], 2, 1)
peers.watch(rank, {0: socket.create_connection(rank.address)})
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("message", "seconds", "code", "line"),
    [
        ("", "60", EXIT_LOST_PEER, "another process of this run has ended or cannot be reached"),
        ("69 error: disk full\n", "60", EXIT_LOST_PEER, "error: disk full"),
        ("75 stopped by SIGTERM\n", "60", EXIT_PREEMPTED, "stopped by a signal to process 0;"),
        ("0 \n", "1", 0, ""),
        ("2 \n", "60", EXIT_LOST_PEER, "process 0 has ended by an error of its own; mend"),
        ("2 \n", "0.2", 0, ""),
    ],
    ids=["killed", "failed", "stopped", "ended", "refused alone", "refused by all"],
)
def test_an_end_of_a_process_ends_the_other_unless_it_is_as_planned(message, seconds, code, line):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHING, address, seconds],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        peer, _ = server.accept()
        peer.sendall(message.encode())
        peer.close()
        _, error = process.communicate(timeout=30)
    assert process.returncode == code, error
    assert line in error and len(error.splitlines()) == (1 if line else 0)


def test_a_forwarded_connection_outlives_the_far_side():
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = peers.forward(server.getsockname()).split(":")
        near = socket.create_connection((host, int(port)), timeout=10)
        far, _ = server.accept()
        near.sendall(b"question")
        assert far.recv(100) == b"question"
        far.sendall(b"answer")
        assert near.recv(100) == b"answer"
        far.close()
        near.settimeout(0.5)
        with pytest.raises(TimeoutError):  # and not the end of the connection
            near.recv(100)
        near.close()
