"""Open files that may be compressed as streams of their content.

The first bytes decide, not the name: gzip, bzip2, xz and zstd.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
# What reading a damaged or truncated file raises
BROKEN = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)


def _zstd(file: BinaryIO) -> BinaryIO:
    import pyarrow as pa

    stream = pa.input_stream(pa.PythonFile(file, mode="r"), compression="zstd")
    return io.BufferedReader(stream)  # type: ignore[type-var]


OPEN: dict[bytes, tuple[str, Callable]] = {
    b"\x1f\x8b": ("gzip", gzip.open),
    b"BZh": ("bzip2", bz2.open),
    b"\xfd7zXZ\x00": ("xz", lzma.open),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}


def opened(path: Path) -> tuple[BinaryIO, str]:
    """Return (a stream of the file's content, the name of its compression or "").

    Raises OSError if the file cannot be opened. Reading raises one of BROKEN if it is damaged.
    """
    file = open(path, "rb")  # noqa: SIM115  the stream owns it
    first = file.peek(8)
    for magic, (name, unpack) in OPEN.items():
        if first.startswith(magic):
            return unpack(file), name
    return file, ""
