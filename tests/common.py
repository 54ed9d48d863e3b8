"""Paths of the repository and helpers that run it in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def run_cli(*args: str, timeout: float = 400, env: dict | None = None):
    """`python -m scaling ...` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "scaling", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )


def run_python(code: str, *args: str, timeout: float = 300, env: dict | None = None):
    """`code` in a process of its own, so that it may choose its devices and imports."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )
