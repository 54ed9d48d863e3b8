"""Bind a process to a parent and to cores, then replace it by a command.

    python -m scaling.sweep.launchers.slot --parent=PID [--cores=0,1] COMMAND...

A separate process does this between fork and exec, since Python code after a fork may deadlock on
the launcher's threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int) -> None:
    """Let Linux send SIGTERM to this process when its parent ends for any reason."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)


def main(argv: list[str]) -> None:
    """Bind this process to its parent and cores, then run the command in its place."""
    parent, cores = int(argv[0].removeprefix("--parent=")), ""
    if argv[1].startswith("--cores="):
        cores, argv = argv[1].removeprefix("--cores="), argv[1:]
    die_with_parent(parent)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    # Slurm announces the end of a job by SIGUSR2 to all of its processes. The worker ignores it,
    # and its parent turns it into SIGTERM.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.execv(argv[1], argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
