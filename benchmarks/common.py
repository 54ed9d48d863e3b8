"""Write and print the figures of a benchmark, with their origin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaling.utils import files, huge_pages, machine


def write_report(path: str, report: dict[str, Any], table: Sequence[str] = ()) -> None:
    """Write the report as JSON, with the machine, the packages and the commit that made it.

    Write the lines of `table`, if given, and the same origin to a `.txt` beside it.
    """
    origin = {
        "device": machine.device_name(),
        "processor": processor(),
        "huge pages": huge_pages.KERNEL.read_text().strip()
        if huge_pages.KERNEL.exists()
        else "none",
        "load": os.getloadavg()[0],  # jobs that ran at the same time, the benchmark included
        "versions": machine.versions(),
        "commit": machine.commit(),
    }
    files.write_json(Path(path), {**report, **origin})
    if table:
        lines = [*table, "", *(f"{name}: {value}" for name, value in origin.items())]
        files.write_bytes(Path(path).with_suffix(".txt"), ("\n".join(lines) + "\n").encode())


def show_and_write(path: str, report: dict[str, Any]) -> None:
    """Print one line per figure and write the files."""
    lines = [f"{name:26} {value}" for name, value in report.items()]
    print(*lines, sep="\n")
    write_report(path, report, lines)


def processor() -> str:
    """Return the CPU's name on Linux, "unknown" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown"
    )
