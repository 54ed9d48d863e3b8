"""Restart the process with glibc's tunable for huge pages, which malloc reads only at the start.

XLA:CPU allocates the temporary memory of a program at each call and frees it afterwards: hundreds
of MiB per dispatch. In pages of 4 KiB, the page faults cost a tenth of a training step
(benchmarks/README.md). From version 2.35, malloc can request transparent huge pages, 2 MiB on x86,
if the kernel lets programs choose.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"  # 1: madvise(MADV_HUGEPAGE) all maps of malloc
FIRST_VERSION = (2, 35)  # of glibc with this tunable
RESTARTED = "SCALING_HUGE_PAGES"  # set in a restarted process and its children
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Restart the process once with the tunable, if that has an effect.

    The process keeps its id, arguments and streams. A `GLIBC_TUNABLES` that sets the tunable, to
    any value, stays unchanged.
    """
    try:
        modes = KERNEL.read_text()
    except OSError:  # not Linux, or a kernel without huge pages
        return
    variables = environment_with_tunable(os.environ, modes, libc())
    if variables is None or not sys.executable:
        return
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    with contextlib.suppress(OSError):  # then it continues with small pages
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def environment_with_tunable(
    variables: Mapping[str, str], kernel: str, libc: str
) -> dict[str, str] | None:
    """Return the environment with the tunable; None if it is set already or has no effect.

    `kernel`: the content of KERNEL, e.g. "always [madvise] never", with the mode in brackets.
    `libc`: e.g. "glibc 2.36".
    """
    present = variables.get("GLIBC_TUNABLES", "")
    name, _, version = libc.partition(" ")
    numbers = tuple(int(n) for n in version.split(".") if n.isdecimal())
    if name != "glibc" or numbers < FIRST_VERSION or "[madvise]" not in kernel:
        return None
    if f"{TUNABLE}=" in present or RESTARTED in variables:
        return None
    tunables = ":".join(filter(None, (present, f"{TUNABLE}=1")))
    return {**variables, "GLIBC_TUNABLES": tunables, RESTARTED: "1"}


def libc() -> str:
    """Return e.g. "glibc 2.36"; "" for another C library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError):
        return ""
