"""Identify the process that owns a claim, distinct from a later process with the same number."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """The content of a claim's file. `token` is unique per claim, `beat` counts its renewals."""

    token: str
    launch: str
    host: str
    machine: str  # boot and process namespace, within which process numbers are unique
    pid: int
    started: int  # start of the process in clock ticks since boot; 0 if unknown
    attempts: int
    state: str  # "held", or "taking": created, but its stale predecessor not yet checked again
    beat: int
    time: float  # clock of the owner's machine, seconds; for display, never compared

    def to_bytes(self) -> bytes:
        """Return the record as one line of JSON."""
        return (json.dumps(dataclasses.asdict(self)) + "\n").encode()

    @property
    def dead(self) -> bool:
        """True only if the owner ran on this machine and its process is gone."""
        if (self.host, self.machine) != (socket.gethostname(), machine()):
            return False
        state = _process(self.pid)
        if state is None:
            return True
        # a zombie has ended; another start time means that the number was reused
        return state[0] in "ZX" or (self.started > 0 and state[1] > 0 and state[1] != self.started)


def parse(content: bytes) -> Record | None:
    """Parse a claim's file, ignoring unknown fields; return None if it is torn or not a claim."""
    try:
        values = json.loads(content)
        record = Record(**{f.name: values[f.name] for f in dataclasses.fields(Record)})
    except (ValueError, KeyError, TypeError):
        return None
    texts = (record.token, record.launch, record.host, record.machine, record.state)
    counts = (record.pid, record.started, record.attempts, record.beat)
    if not all(isinstance(t, str) for t in texts) or not isinstance(record.time, (int, float)):
        return None
    return record if all(type(c) is int and c >= 0 for c in counts) else None


def this_process(token: str, launch: str, attempts: int, state: str) -> Record:
    """Return the record of a claim by this process."""
    pid = os.getpid()
    process = _process(pid)
    return Record(
        token=token,
        launch=launch,
        host=socket.gethostname(),
        machine=machine(),
        pid=pid,
        started=process[1] if process else 0,
        attempts=attempts,
        state=state,
        beat=0,
        time=0.0,
    )


@functools.cache
def machine() -> str:
    """Return the boot id and process namespace from Linux's /proc; "" on other systems."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process(pid: int) -> tuple[str, int] | None:
    """Return (state, start time) by proc(5); ("?", 0) if only the process's existence is known."""
    try:
        # the fields after the command, which is in brackets and may contain anything: the state is
        # the first, the start time the 20th
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except (OSError, IndexError, ValueError):
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return "?", 0
