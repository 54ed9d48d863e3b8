"""Identify a process, distinct from a later one with its number and from those of other hosts."""

from __future__ import annotations

import functools
import os
import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of some machine."""

    host: str
    machine: str  # boot and process namespace, within which process numbers are unique
    pid: int
    started: int  # start of the process in clock ticks since boot; 0 if unknown

    @property
    def dead(self) -> bool:
        """True only if the process ran on this machine and is gone."""
        if (self.host, self.machine) != (socket.gethostname(), machine()):
            return False
        state = _state(self.pid)
        if state is None:
            return True
        # a zombie has ended; another start time means that the number was reused
        return state[0] in "ZX" or (self.started > 0 and state[1] > 0 and state[1] != self.started)


def this() -> Process:
    """Return the calling process."""
    pid = os.getpid()
    state = _state(pid)
    return Process(socket.gethostname(), machine(), pid, state[1] if state else 0)


@functools.cache
def machine() -> str:
    """Return the boot id and process namespace from Linux's /proc; "" on other systems."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _state(pid: int) -> tuple[str, int] | None:
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
