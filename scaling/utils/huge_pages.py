"""Host memory in huge pages, which glibc gives only to a process that was started with its tunable.

XLA:CPU takes the temporary memory of a program when it is called and returns it afterwards: hundreds of MiB per
dispatch, and in pages of 4 KiB a fault for each costs a tenth of a training step (benchmarks/README.md). From version
2.35 on malloc can ask for transparent huge pages, 2 MiB on x86, where the kernel leaves that to programs.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"  # 1: madvise(MADV_HUGEPAGE) what malloc maps
FIRST = (2, 35)  # glibc that knows it
ASKED = "SCALING_HUGE_PAGES"  # set in a process that was begun again, and in its children
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Begin the process again with the tunable where that changes anything: the same id, arguments and streams.

    A `GLIBC_TUNABLES` that names the tunable, with whatever value, is left as it is. It happens once.
    """
    try:
        said = KERNEL.read_text()
    except OSError:  # not Linux, or a kernel without them
        return
    variables = environment_with_tunable(os.environ, said, libc())
    if variables is None or not sys.executable:
        return
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    with contextlib.suppress(OSError):  # then it goes on in small pages
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def environment_with_tunable(variables: Mapping[str, str], kernel: str, libc: str) -> dict[str, str] | None:
    """The environment with the tunable in it; None where it is there already or would change nothing.

    `kernel` is its file, e.g. "always [madvise] never", with the mode in brackets; `libc` e.g. "glibc 2.36".
    """
    present = variables.get("GLIBC_TUNABLES", "")
    name, _, version = libc.partition(" ")
    numbers = tuple(int(n) for n in version.split(".") if n.isdecimal())
    if name != "glibc" or numbers < FIRST or "[madvise]" not in kernel:
        return None
    if f"{TUNABLE}=" in present or ASKED in variables:
        return None
    tunables = ":".join(filter(None, (present, f"{TUNABLE}=1")))
    return {**variables, "GLIBC_TUNABLES": tunables, ASKED: "1"}


def libc() -> str:
    """ "glibc 2.36"; "" with another C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError):
        return ""
