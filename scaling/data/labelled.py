"""Define a source of labelled examples: images or log-mel grids, each with one label.

Shapes: H rows (pixels, or frames in time), W columns (pixels, or mel bands), C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from scaling.utils.errors import UserError


class Example(NamedTuple):
    """One example as read."""

    x_HWC: np.ndarray
    label: int
    group: bytes  # a speaker or an utterance; a split never separates examples of one group
    content: bytes  # the raw content, for the fingerprint
    name: str  # for errors


class Corrupt(NamedTuple):
    """An unreadable example."""

    name: str
    reason: str


class Source(Protocol):
    """Labelled examples in a fixed order."""

    classes: tuple[str, ...]  # names, index = label
    shape: tuple[int, int, int]  # (H, W, C)
    dtype: np.dtype
    splits: tuple[str, ...]

    def identity(self) -> dict:
        """Return the properties that determine the examples, as part of a cache key."""
        ...

    def read(self, split: str) -> Iterator[Example | Corrupt]:
        """Yield the examples of a split."""
        ...


def group_id(group: bytes) -> int:
    """Return a 64-bit hash of a group."""
    return int.from_bytes(hashlib.sha256(group).digest()[:8], "big")


def stats(files: list[Path]) -> str:
    """Return a hash of the paths, sizes and times of files, for `Source.identity`."""
    stat = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(stat).encode()).hexdigest()


def class_folders(path: str, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Return class -> files: `path` has one folder per class, both sorted by name.

    Raises UserError if it has no folder, or an empty one.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"config.data.path={path}: no such folder")
    classes = {
        f.name: sorted(g for g in f.rglob("*") if g.suffix.lower() in suffixes)
        for f in sorted(folder.iterdir())
        if f.is_dir()
    }
    if not classes:
        raise UserError(
            f"config.data.path={path}: it should have one folder per class, and has none"
        )
    for name, files in classes.items():
        if not files:
            raise UserError(
                f"config.data.path={path}: class {name!r} is empty, it has no file of "
                f"{', '.join(suffixes)}; add some, or remove its folder"
            )
    return classes
