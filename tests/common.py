"""Paths of the repository, the config of tiny runs, and processes that run its code."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"

STEP = 32 * 4  # tokens per step of configs/mini.py
# The values of a tiny run of configs/mini.py. Tests that share them share compiled programs.
TINY = {
    "sweep.kind": "none",
    "model.width": 16,
    "model.head_dim": 8,
    "model.mlp_width": 64,
    "eval.tokens": 2048,
}


# Compiling is most of the time of tests. The emitters of fusions take half of it.
QUICK_XLA = "--xla_cpu_use_fusion_emitters=false"


def compile_quickly() -> None:
    """Compile with few optimizations, here and in processes; call it before jax is imported."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_XLA}".strip()
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"


def as_users_compile() -> dict[str, str]:
    """Return the environment of a process that compiles as `scaling` does by default."""
    flags = os.environ.get("XLA_FLAGS", "").replace(QUICK_XLA, "").strip()
    return {"XLA_FLAGS": flags, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}


def flags(values: dict) -> list[str]:
    """Return config values as flags of the command line."""
    return [f"--config.{key}={value}" for key, value in values.items()]


def make_once(folder: Path, make: Callable[[], object]) -> None:
    """Call `make` unless it has succeeded for `folder`; processes that come meanwhile wait for it.

    `make` writes into `folder`, which it may create.
    """
    done = folder.with_name(f"{folder.name}.made")
    with open(folder.with_name(f"{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make()
            done.touch()


def run_cli(*args: str, timeout: float = 400, env: dict | None = None):
    """Run `python -m scaling ...` in a process of its own."""
    return _run([sys.executable, "-m", "scaling", *args], timeout, env)


def run_python(code: str, *args: str, timeout: float = 300, env: dict | None = None):
    """Run `code` in a process of its own, which may choose its devices and imports."""
    return _run([sys.executable, "-c", code, *args], timeout, env)


def _run(command: list[str], timeout: float, env: dict | None):
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
    )
