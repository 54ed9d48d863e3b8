"""What every benchmark's file of figures says besides its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling import files, machine


def write_report(path: str, report: dict[str, Any]) -> None:
    """The report as JSON, with the machine, the packages and the commit that made it."""
    origin = {
        "device": machine.device_name(),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }
    files.write_json(Path(path), {**report, **origin})


def show_and_write(path: str, report: dict[str, Any]) -> None:
    """One line per figure, and the file."""
    for name, value in report.items():
        print(f"{name:26} {value}")
    write_report(path, report)
