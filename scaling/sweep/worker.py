"""PROTOTYPE of the worker, for trials of the launchers only: claims by file locks, runs one by one."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

from scaling import config as config_lib
from scaling import files
from scaling.sweep import plan, runner


def work(workdir: Path, launch: str) -> list[str]:
    """Train planned runs that nobody else trains until none is left; returns problems."""
    runs = plan.plan(config_lib.from_json(files.read_json(workdir / "sweep.json")))
    left = {runner.run_dir(workdir, run): run for run in runs}
    (workdir / "claims").mkdir(exist_ok=True)
    problems: list[str] = []
    while left:
        for folder, run in list(left.items()):
            with open(workdir / "claims" / folder.name, "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if not (folder / "result.json").exists():
                    problems += runner.sweep([run], workdir).problems
                del left[folder]
        time.sleep(0.2)
    return problems
