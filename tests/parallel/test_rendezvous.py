"""Test the meeting of processes: lines of strangers, and where process 0 listens."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from scaling.parallel import rendezvous
from scaling.parallel.rendezvous import ProcessRank
from scaling.utils.errors import UserError

BAD_LINES = {
    "empty": b"",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "bytes": b"\xff\xfe\n",
    "list": b"[]\n",
    "null": b"null\n",
    "brackets": b"[" * 100_000 + b"\n",
    "no process": b"{}\n",
    "a text as process": b'{"process": "1", "processes": 2, "facts": {}}\n',
    "a list as process": b'{"process": [1], "processes": 2, "facts": {}}\n',
    "a switch as process": b'{"process": true, "processes": 2, "facts": {}}\n',
    "no processes": b'{"process": 1, "facts": {}}\n',
    "a text as processes": b'{"process": 1, "processes": "2", "facts": {}}\n',
    "no facts": b'{"process": 1, "processes": 2}\n',
    "a list as facts": b'{"process": 1, "processes": 2, "facts": []}\n',
    "too long": b'{"process": "' + b"1" * (rendezvous.LINE_BYTES + 9) + b'"}\n',
    "a huge number": b'{"process": ' + b"1" * 5000 + b', "processes": 2, "facts": {}}\n',
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def connect(address) -> socket.socket:
    """Connect as soon as process 0 listens."""
    end = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(address, timeout=5)
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.01)


def meet_all(coordinator: str, seconds: float = 20, count: int = 2) -> dict[int, object]:
    """Let processes meet, as threads; return what each call of `meet` gave or raised."""
    ended: dict[int, object] = {}

    def run(k: int) -> None:
        try:
            ended[k] = rendezvous.meet(ProcessRank(coordinator, count, k), {"a": 1}, seconds)
        except BaseException as error:
            ended[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + 10)
    return ended


def test_lines_of_others_are_no_processes(monkeypatch):
    """Every bad line comes first, and the two processes meet nevertheless."""
    monkeypatch.setattr(rendezvous, "GREETING_SECONDS", 0.1)
    port = free_port()
    address = ("127.0.0.1", port)
    ended: list[object] = []

    def first() -> None:
        try:
            ended.append(rendezvous.meet(ProcessRank(f"127.0.0.1:{port}", 2, 0), {"a": 1}, 30))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    strangers = []
    for line in BAD_LINES.values():
        strangers.append(connect(address))
        strangers[-1].sendall(line)
    assert isinstance(rendezvous.meet(ProcessRank(f"127.0.0.1:{port}", 2, 1), {"a": 1}, 30), dict)
    thread.join(10)
    for stranger in strangers:
        stranger.close()
    assert isinstance(ended[0], dict) and set(ended[0]) == {1}


@pytest.mark.parametrize("answer", [[], {"verdict": ["a"]}, {"verdict": None}, {}, "x", 1])
def test_answers_that_are_no_verdict_are_one_line(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answers() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                peer.recv(1 << 16)
                peer.sendall(json.dumps(answer).encode() + b"\n")
                peer.close()

        threading.Thread(target=answers, daemon=True).start()
        with pytest.raises(UserError, match="something else answers there") as caught:
            rendezvous.meet(ProcessRank(f"127.0.0.1:{port}", 2, 1), {}, 0.3)
        server.shutdown(socket.SHUT_RDWR)
    assert "\n" not in str(caught.value)


def test_process_0_listens_at_the_given_address_alone():
    """While another program holds the same port of 127.0.0.2, the processes meet at 127.0.0.1."""
    port = free_port()
    with socket.create_server(("127.0.0.2", port)):
        ended = meet_all(f"127.0.0.1:{port}")
    assert all(isinstance(end, dict) for end in ended.values()), ended


def test_an_address_of_another_machine_is_refused_at_once():
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"cannot listen there .*; give an address of its machine"):
        rendezvous.meet(ProcessRank("192.0.2.1:4711", 2, 0), {}, 30)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("host", "known", "listens"),
    [
        ("node7", ["10.0.0.7"], "node7"),
        ("node7", ["127.0.1.1"], "::"),  # as Debian writes a machine's own name
        ("localhost", ["127.0.0.1"], "localhost"),
        ("127.0.0.1", ["127.0.0.1"], "127.0.0.1"),
    ],
)
def test_a_name_that_others_cannot_reach_is_not_listened_at(host, known, listens, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 4711)) for a in known]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    assert ProcessRank(f"{host}:4711", 2, 0).listen_address == (listens, 4711)
