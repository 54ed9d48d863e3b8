"""Create folders of prepared data once, atomically, and check them on use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.utils.errors import UserError

VERIFY_BELOW = 1 << 30  # bytes; larger files are checked by their size alone


def root(data) -> Path:
    """Return the folder of prepared data, by the config's `data` section."""
    folder = data.cache_dir or os.environ.get("SCALING_CACHE") or "~/.cache/scaling"
    return Path(folder).expanduser()


@contextlib.contextmanager
def create_once(folder: Path) -> Iterator[Path]:
    """Yield a new folder that becomes `folder` at the end; an error deletes it.

    If another process was first, its folder stays. A complete folder holds `meta.json`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
    try:
        yield work
        try:
            work.rename(folder)
        except OSError:
            if not (folder / "meta.json").is_file():  # otherwise another process was first
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the `meta.json` of a complete folder. Raises UserError if it is damaged."""
    path = folder / "meta.json"
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete {folder} and run again") from error


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, size: int, sha256: str) -> None:
    """Check the size in bytes and, below VERIFY_BELOW, the hash of a file. Raises UserError."""
    actual = path.stat().st_size if path.is_file() else -1
    if actual != size or (size < VERIFY_BELOW and file_hash(path) != sha256):
        raise UserError(
            f"{path}: damaged (hash or size differs); delete {path.parent} and run again"
        )
