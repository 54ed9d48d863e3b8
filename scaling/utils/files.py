"""Write files so that a kill at any moment leaves either the old or the new content.

A file that cannot be written, for lack of space or permission, raises a UserError that names it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scaling.utils.errors import UserError


@contextlib.contextmanager
def report_unwritable(path: Path) -> Iterator[None]:
    """Convert an OSError to a UserError about `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); make it writable, free some "
            "space, or choose another folder"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a temporary file beside `path`, synced, then renamed over it.

    A file that already has this content stays unchanged.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    _replace(path, content)


def renew(path: Path) -> None:
    """Replace an existing file by a copy, so that a process that has it open writes to the old one.

    This fences off a suspended writer that lost the file to another process, see `append_lines`.
    """
    if path.is_file():
        _replace(path, path.read_bytes())


def _replace(path: Path, content: bytes) -> None:
    with report_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def csv_bytes(columns: dict[str, Any]) -> bytes:
    """Return a CSV of columns of equal length; floats read back with the same bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically; see `json_bytes`."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON, with null for numbers that are not finite, which JSON lacks."""
    return (json.dumps(_finite(value), indent=1, allow_nan=False) + "\n").encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_json(path: Path) -> Any:
    """Return the value of a JSON file. Raises UserError naming a missing or damaged file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete it, or restore it") from error


def append_bytes(path: Path, content: bytes) -> None:
    """Append to a file, created if missing."""
    with report_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(content)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a whole file of JSON lines, atomically."""
    write_bytes(path, _lines(rows))


def append_lines(
    path: Path, rows: list[dict[str, Any]], still_mine: Callable[[], None] = lambda: None
) -> None:
    """Append JSON lines in one write, after ending a last line torn by an earlier kill.

    `still_mine` is called once the file is open, and may raise. A writer that is suspended after
    that call appends to the file that it opened. A process that took over meanwhile has renewed the
    file, so these lines are lost.
    """
    content = _lines(rows)
    with report_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    content = b"\n" + content
            still_mine()
            file.write(content)


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_lines(path: Path, key: str) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file, the last of each `key`, in order of `key`.

    A killed and resumed run repeats the rows after its checkpoint, with equal numbers. Lines torn
    by the kill are skipped.
    """
    rows: dict[Any, dict[str, Any]] = {}
    if not path.is_file():
        return []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
            rows[row[key]] = row
        except (json.JSONDecodeError, KeyError, TypeError):
            continue
    return [rows[k] for k in sorted(rows)]
