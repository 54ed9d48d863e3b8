"""Find what a workdir, and the cache of its data, hold without need, and free it.

Nothing that a running or resumed command reads is a leftover: neither the checkpoints of a run
without a result, nor those that it will fork from, nor a file that changed a moment ago.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.data import cache
from scaling.study import single_run
from scaling.sweep.execute import jobs
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared.claims import Claims
from scaling.utils import files

# Temporary names of `files`, of claims, of downloads, and of orbax's unfinished checkpoints.
TEMPORARY = re.compile(
    r"\..+-[a-z0-9_]{8}|\.[0-9a-f]{32}|\.pull-.+|[0-9]+\.orbax-checkpoint-tmp.*", re.DOTALL
)
IN_USE_SECONDS = 600.0  # a temporary file that changed later than this may be in use


@dataclass(frozen=True)
class Leftover:
    """A file or a folder that can be deleted."""

    kind: str
    path: Path
    size: int  # bytes


def find(workdir: Path, checkpoints: bool) -> tuple[list[Leftover], list[Path]]:
    """Return (the leftovers, folders of unfinished data that another machine may be building).

    With `checkpoints` those of ended runs are leftovers, too. Raises UserError if the workdir holds
    neither a sweep nor a run, or a file that says what is needed is damaged.
    """
    config, runs = single_run.runs_of(None, workdir)
    found = list(_of_killed_processes(workdir, _alive(workdir, config)))
    if checkpoints:
        found += _checkpoints(workdir, runs)
    parents = [path for path in cache.root(config.data).glob("*") if path.is_dir()]
    abandoned = [path for parent in parents for path in cache.abandoned(parent)]
    found += [_leftover("unfinished data", path) for path in abandoned]
    building = {path for parent in parents for path in parent.glob(f"{cache.BUILDING}*")}
    return found, sorted(building - set(abandoned))


def free(found: list[Leftover]) -> None:
    """Delete the leftovers. Raises UserError naming the first that cannot be deleted."""
    for leftover in found:
        with files.report_unwritable(leftover.path):
            if leftover.path.is_dir() and not leftover.path.is_symlink():
                shutil.rmtree(leftover.path)
            else:
                leftover.path.unlink(missing_ok=True)


def _alive(workdir: Path, config: ConfigDict) -> set[str]:
    """Return the runs that a worker holds."""
    o = config.launch
    claims = Claims(workdir / "claims", heartbeat=o.heartbeat_seconds, stale_after=o.stale_seconds)
    return {name for name, holder in claims.holders().items() if holder.alive}


def _of_killed_processes(workdir: Path, alive: set[str]) -> Iterator[Leftover]:
    """Yield damaged checkpoints that were set aside, and old temporary files and folders."""
    now = time.time()
    for name in results.run_names(workdir):
        if name not in alive:
            for path in sorted((workdir / "runs" / name / "damaged").glob("*")):
                yield _leftover("damaged checkpoint", path)
    folders = ("*", "curves/*", "halving/*", "launches/*", "claims/*/*", "runs/*/*")
    for pattern in (*folders, "runs/*/checkpoints/*", "runs/*/merged/*"):
        for path in sorted(workdir.glob(pattern)):
            of_run = path.relative_to(workdir).parts[1:2]
            if TEMPORARY.fullmatch(path.name) and not alive & set(of_run):
                with contextlib.suppress(FileNotFoundError):  # its process renamed it meanwhile
                    if now - path.lstat().st_mtime > IN_USE_SECONDS:
                        yield _leftover("temporary file", path)


def _checkpoints(workdir: Path, runs: list[PlannedRun]) -> Iterator[Leftover]:
    """Yield the checkpoints of ended runs that no other run will fork from."""
    ended = set()
    for name in results.run_names(workdir):
        try:
            result = results.read_ended(workdir / "runs" / name)
        except results.DamagedResult:
            continue  # it will be trained again once the file is deleted
        if result is not None and result.status != "failed":
            ended.add(name)
    families = jobs.job_runs(runs, share_trunks=True)
    needed = {job_run.trunk for job_run in families if job_run.run_id not in ended}
    for name in sorted(ended - needed):
        for path in (workdir / "runs" / name / "checkpoints", workdir / "runs" / name / "merged"):
            if path.is_dir():
                yield _leftover("checkpoints of an ended run", path)


def _leftover(kind: str, path: Path) -> Leftover:
    parts = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
    return Leftover(kind, path, sum(part.lstat().st_size for part in parts if not part.is_dir()))
