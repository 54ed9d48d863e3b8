"""Host memory in huge pages, which glibc gives only to a process that was started with its tunable.

XLA:CPU takes the temporary memory of a program when it is called and returns it afterwards: hundreds of MiB per
dispatch, and in pages of 4 KiB a fault for each costs a tenth of a training step (benchmarks/README.md). From version
2.35 on malloc can ask for transparent huge pages, 2 MiB on x86, where the kernel leaves that to programs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"  # 1: madvise(MADV_HUGEPAGE) what malloc maps
KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Begin the process again with the tunable where that changes anything: the same id, arguments and streams.

    A `GLIBC_TUNABLES` that names the tunable, with whatever value, is left as it is; so one restart is all.
    """
    try:
        said = KERNEL.read_text()
    except OSError:  # not Linux, or a kernel without them
        return
    variables = asking(os.environ, said)
    if variables is None or not sys.executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)


def asking(variables: Mapping[str, str], kernel: str) -> dict[str, str] | None:
    """The environment with the tunable in it; None where it is there or the kernel decides alone.

    `kernel` is its file, e.g. "always [madvise] never", with the mode in brackets.
    """
    present = variables.get("GLIBC_TUNABLES", "")
    if "[madvise]" not in kernel or f"{TUNABLE}=" in present:
        return None
    tunables = ":".join(filter(None, (present, f"{TUNABLE}=1")))
    return {**variables, "GLIBC_TUNABLES": tunables}
