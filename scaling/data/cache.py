"""Create folders of prepared data once, atomically, and check them on use.

A folder that is being built names its process, so that what a killed process left can be removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.utils import files, process
from scaling.utils.errors import Preempted, UserError

BUILDING = ".building-"  # then the builder's machine, process and start, and a random part
PROGRESS = "progress.json"  # in a folder whose builder can be resumed; names it as `target`
VERIFY_BELOW = 1 << 30  # bytes; larger files are checked by their size alone


def root(data) -> Path:
    """Return the folder of prepared data, by the config's `data` section."""
    folder = data.cache_dir or os.environ.get("SCALING_CACHE") or "~/.cache/scaling"
    return Path(folder).expanduser()


def is_complete(folder: Path) -> bool:
    """Return whether a folder of prepared data is complete.

    Folders beside it that killed processes of this machine were building are removed, but for
    those that `create_once` can resume.
    """
    for left in abandoned(folder.parent):
        target = _target(left)
        if not target or (folder.parent / target / "meta.json").exists():
            shutil.rmtree(left, ignore_errors=True)
    return (folder / "meta.json").exists()


@contextlib.contextmanager
def create_once(folder: Path, resume: bool = False) -> Iterator[Path]:
    """Yield a new folder that becomes `folder` at the end; an error deletes it.

    If another process was first, its folder stays. A complete folder holds `meta.json`. With
    `resume` the folder may be that of a process that was stopped, and PROGRESS is in it.
    """
    with files.report_unwritable(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = (_adopted(folder) if resume else None) or Path(
            tempfile.mkdtemp(prefix=_prefix(process.this()), dir=folder.parent)
        )
    stopped = False
    try:
        yield work
        try:
            work.rename(folder)
        except OSError as error:
            if not (folder / "meta.json").is_file():  # otherwise another process was first
                reason = "a folder without meta.json is there" if folder.exists() else error
                raise files.Damaged(
                    f"{folder}: cannot be completed ({reason}); delete {folder} and run again"
                ) from error
    except Preempted:
        stopped = resume and _target(work) == folder.name
        raise
    finally:
        if not stopped:
            shutil.rmtree(work, ignore_errors=True)


def _adopted(folder: Path) -> Path | None:
    """Return a folder that was being built as `folder` by a process that is gone, now ours."""
    for left in abandoned(folder.parent):
        if _target(left) == folder.name:
            work = left.with_name(_prefix(process.this()) + left.name.rpartition("-")[2])
            with contextlib.suppress(FileNotFoundError):  # another process was first
                return left.rename(work)
    return None


def _target(work: Path) -> str:
    """Return the name of the folder that this one can become, or "" if it cannot be resumed."""
    try:
        return str(files.read_json(work / PROGRESS)["target"])
    except (UserError, KeyError):
        return ""


def abandoned(parent: Path) -> list[Path]:
    """Return the folders below `parent` whose builder ran on this machine and is gone.

    Those of other machines, and of versions that named no builder, may be in use.
    """
    here, left = process.this(), []
    for path in sorted(parent.glob(f"{BUILDING}*")):
        parts = path.name.removeprefix(BUILDING).split("-")
        if len(parts) == 4 and parts[1].isdecimal() and parts[2].isdecimal():
            builder = dataclasses.replace(here, pid=int(parts[1]), started=int(parts[2]))
            if path.name.startswith(_prefix(builder)) and builder.dead:
                left.append(path)
    return left


def _prefix(builder: process.Process) -> str:
    machine = hashlib.sha256(f"{builder.host} {builder.machine}".encode()).hexdigest()[:12]
    return f"{BUILDING}{machine}-{builder.pid}-{builder.started}-"


def write_meta(work: Path, meta: dict[str, Any]) -> None:
    """Write the `meta.json` that completes a folder, with a seal of its content."""
    files.write_json(work / "meta.json", meta, seal=True)


@contextlib.contextmanager
def meta_of(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the `meta.json` of a complete folder; what the block misses in it is damage.

    Raises UserError naming the file and the folder to delete.
    """
    fix = f"delete {folder} and run again"
    with files.damage(folder / "meta.json", fix):
        yield files.read_json(folder / "meta.json", fix)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, size: int | None, sha256: str) -> None:
    """Check the size in bytes, if given, and below VERIFY_BELOW the hash. Raises UserError."""
    actual = path.stat().st_size if path.is_file() else -1
    if actual < 0 or size not in (None, actual):
        raise damaged(path)
    if actual < VERIFY_BELOW and file_hash(path) != sha256:
        raise damaged(path)


def damaged(path: Path) -> files.Damaged:
    """Return the error of a damaged file of a folder of prepared data."""
    return files.Damaged(
        f"{path}: damaged (hash or size differs); delete {path.parent} and run again"
    )
