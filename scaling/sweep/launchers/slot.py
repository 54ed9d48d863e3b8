"""`python -m scaling.sweep.launchers.slot --parent=PID [--cores=0,1] COMMAND...` becomes COMMAND, bound to its slot.

A process of its own does this, between fork and exec, since a launcher may hold threads that a fork
with Python code would deadlock on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with_parent(parent: int) -> None:
    """Linux: have SIGTERM sent to this process when its parent ends, however it ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the call
        sys.exit(1)


def main(argv: list[str]) -> None:
    """Bind this process to its parent and cores, then become the command."""
    parent, cores = int(argv[0].removeprefix("--parent=")), ""
    if argv[1].startswith("--cores="):
        cores, argv = argv[1].removeprefix("--cores="), argv[1:]
    die_with_parent(parent)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    # Slurm announces the end of a job by SIGUSR2 to all of its processes; the one above the worker
    # turns it into SIGTERM, and the worker must outlive it until then.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.execv(argv[1], argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
