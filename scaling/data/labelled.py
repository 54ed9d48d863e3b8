"""What a source of labelled examples gives: images or log-mel grids, each with one label.

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
    """One example, as it is read."""

    x_HWC: np.ndarray
    label: int
    group: bytes  # examples of equal group stand on one side of a split: a speaker, an utterance
    content: bytes  # what was read, for the fingerprint
    name: str  # for errors


class Corrupt(NamedTuple):
    """An example that could not be read."""

    name: str
    reason: str


class Source(Protocol):
    """Labelled examples in an order that is fixed."""

    classes: tuple[str, ...]  # names, index = label
    shape: tuple[int, int, int]  # (H, W, C)
    dtype: np.dtype
    splits: tuple[str, ...]

    def identity(self) -> dict:
        """What decides the examples, as part of a cache key."""
        ...

    def read(self, split: str) -> Iterator[Example | Corrupt]:
        """The examples of a split."""
        ...


def group_id(group: bytes) -> int:
    """64 bits that stand for a group."""
    return int.from_bytes(hashlib.sha256(group).digest()[:8], "big")


def stats(files: list[Path]) -> str:
    """A hash of files' paths, sizes and times, for `Source.identity`."""
    found = [(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def class_folders(path: str, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Class -> its files: one folder per class below `path`, both sorted by name.

    Raises UserError where there are no such folders, or one is empty.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"config.data.path={path}: no such folder")
    found = {
        f.name: sorted(g for g in f.rglob("*") if g.suffix.lower() in suffixes)
        for f in sorted(folder.iterdir())
        if f.is_dir()
    }
    if not found:
        raise UserError(
            f"config.data.path={path}: it should have one folder per class, and has none"
        )
    for name, files in found.items():
        if not files:
            raise UserError(
                f"config.data.path={path}: class {name!r} is empty, it has no file of "
                f"{', '.join(suffixes)}; add some, or remove its folder"
            )
    return found
