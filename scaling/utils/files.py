"""Write files so that a kill at any moment leaves the old or the new content, and read them back.

A file that cannot be written, for lack of space or permission, raises a UserError that names it.
A file that is not what was written there is `Damaged`. A file that many runs depend on is then
refused. A file of one run, or a line of one, is skipped and reported, see docs/running_sweeps.md.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import logging
import math
import os
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scaling.utils.errors import UserError, one_line

log = logging.getLogger("scaling")

MAX_DEPTH = 100  # of nested JSON; no file of ours is deeper, and deeper ones overflow the stack
SEAL = "seal"  # key of a JSON file that holds the hash of its other keys
CHECKSUM = "crc32"  # key of a row of JSON lines: the CRC-32 of its folder's name and other keys
# What damaged content raises in code that unpacks it.
UNPACKING = (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError)


class Damaged(UserError):
    """A file of ours that is not what was written there."""


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


def write_json(path: Path, value: Any, seal: bool = False) -> None:
    """Write a value as JSON, atomically; see `json_bytes`."""
    write_bytes(path, json_bytes(value, seal))


def json_bytes(value: Any, seal: bool = False) -> bytes:
    """Return a value as JSON, with null for numbers that are not finite, which JSON lacks.

    `seal` adds a hash of a dict's content, which `read_json` checks.
    """
    value = _finite(value)
    value = sealed(value) if seal else value
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """Return an object of JSON with a hash of its content, which `unsealed` checks."""
    return {**content, SEAL: _seal(content)}


def _seal(content: dict[str, Any]) -> str:
    """Return the hash of all keys but the schema number, which is checked before."""
    others = {key: value for key, value in content.items() if key not in (SEAL, "schema")}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:16]


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_json(path: Path, fix: str = "delete it, or restore it") -> dict[str, Any]:
    """Return the object of a JSON file, without its seal.

    Raises UserError naming a missing or unreadable file, Damaged naming the file and the fault.
    """
    with damage(path, fix):
        return parse_object(_content(path))


def parse_object(content: bytes | str) -> dict[str, Any]:
    """Return a JSON object without its seal. Raises ValueError if it is not one, or was changed."""
    return unsealed(parse(content))


def unsealed(value: Any) -> dict[str, Any]:
    """Return an object without its seal. Raises ValueError if it is not one, or was changed."""
    if not isinstance(value, dict):
        raise ValueError(f"{type(value).__name__}, not an object")
    content = {key: inner for key, inner in value.items() if key != SEAL}
    if SEAL in value and value[SEAL] != _seal(content):
        raise ValueError("its content differs from what was written")
    return content


def parse(content: bytes | str) -> Any:
    """Return the value of JSON. Raises ValueError if it is not JSON, or nested too deep."""
    try:
        value = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError as error:
        raise ValueError(f"not JSON: {one_line(error, 150)}") from error
    depth, level = 0, [value] if isinstance(value, dict | list) else []
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return value


@contextlib.contextmanager
def damage(source: Path | str, fix: str = "delete it, or restore it") -> Iterator[None]:
    """Convert what damaged content raises when it is unpacked to Damaged, which names `source`."""
    try:
        yield
    except UNPACKING as error:
        reason = one_line(error, 200)
        if isinstance(error, LookupError):
            reason = f"{reason} is missing"
        raise Damaged(f"{source}: damaged ({reason}); {fix}") from error


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a number, and finite as a float."""
    try:
        return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)
    except OverflowError:
        return False


def check_numbers(values: dict[str, Any], *names: str) -> None:
    """Raise KeyError or ValueError, for `damage`, unless these values are finite numbers."""
    for name in names:
        if not is_number(values[name]):
            raise ValueError(f"{name} is not a finite number")


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes. Raises OSError, also at a pipe or device, which may never end."""

    def without_waiting(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NONBLOCK)

    with open(path, "rb", opener=without_waiting) as file:  # Python refuses a folder
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read()


def _content(path: Path) -> bytes:
    """Return a file's bytes. Raises UserError if unreadable, ValueError if it is a folder."""
    try:
        return read_bytes(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise ValueError("a folder, not a file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def append_bytes(path: Path, content: bytes) -> None:
    """Append to a file, created if missing."""
    with report_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(content)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a whole file of JSON lines, atomically. Rows with a checksum get that of this file."""
    signed = [{**r, CHECKSUM: _checksum(r, path)} if CHECKSUM in r else r for r in rows]
    write_bytes(path, _lines(signed))


def append_lines(
    path: Path, rows: list[dict[str, Any]], still_mine: Callable[[], None] = lambda: None
) -> None:
    """Append JSON lines in one write, after ending a last line torn by an earlier kill.

    Each line gets a checksum, which `read_lines` checks.

    `still_mine` is called once the file is open, and may raise. A writer that is suspended after
    that call appends to the file that it opened. A process that took over meanwhile has renewed the
    file, so these lines are lost.
    """
    content = _lines([{**row, CHECKSUM: _checksum(row, path)} for row in rows])
    with report_unwritable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    content = b"\n" + content
            still_mine()
            file.write(content)


def _checksum(row: dict[str, Any], path: Path) -> int:
    """Return the CRC-32 of the name of a row's folder, which is its run, and of its other keys."""
    content = json.dumps({k: v for k, v in row.items() if k != CHECKSUM})
    return zlib.crc32(f"{path.absolute().parent.name} {content}".encode())


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_lines(
    path: Path, key: str, numbers: Sequence[str] = (), problems: list[str] | None = None
) -> list[dict[str, Any]]:
    """Return the rows of a JSON-lines file, the last of each `key`, in order of `key`.

    A row needs an integer `key`, finite `numbers` and, if it has a checksum, the right one. Other
    lines are skipped; one line that names the file and the first of them is added to `problems`,
    or logged. A last line without its end, which a kill leaves, is skipped silently. Without a file
    there are no rows.
    """
    rows: dict[int, dict[str, Any]] = {}
    try:
        with damage(path, "skipped"):
            lines = _content(path).split(b"\n") if path.exists() else [b""]
    except UserError as error:
        _report([str(error)], problems)
        return []
    bad = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            row = parse_row(line, path, key, numbers)
            rows[row[key]] = row
        except ValueError as error:
            bad.append(f"line {number}: {one_line(error, 100)}")
    with contextlib.suppress(ValueError):
        row = parse_row(lines[-1], path, key, numbers)
        rows[row[key]] = row
    if bad:
        more = f", and {len(bad) - 1} more lines" if len(bad) > 1 else ""
        _report([f"{path}: {bad[0]}{more}; skipped"], problems)
    return [rows[k] for k in sorted(rows)]


def parse_row(line: bytes, path: Path, key: str, numbers: Sequence[str] = ()) -> dict[str, Any]:
    """Return the row of a line of a file; see `read_lines`. Raises ValueError if it is not one."""
    row = parse(line)
    if not isinstance(row, dict):
        raise ValueError("not an object")
    if not isinstance(row.get(key), int):
        raise ValueError(f"{key}={str(row.get(key))[:40]!r} is not a whole number")
    for name in (key, *numbers):
        if not is_number(row.get(name)):
            raise ValueError(f"{name}={str(row.get(name))[:40]!r} is not a finite number")
    if CHECKSUM in row and row[CHECKSUM] != _checksum(row, path):
        raise ValueError(f"{CHECKSUM} is not that of the row: changed, or of another run")
    return row


def _report(lines: list[str], problems: list[str] | None) -> None:
    if problems is not None:
        problems += [line for line in lines if line not in problems]
        return
    for line in lines:
        log.warning("warning: %s", line)
