"""Read JSON lines, Parquet and Arrow files row by row: the value of one key, however nested.

A reader yields (number of the row from 1, value), and MISSING where a row lacks the key. Files are
streamed: memory holds one line, or one batch of rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.data.faults import REPLACE, Faults
from scaling.utils import compressed
from scaling.utils.errors import one_line

LONGEST_LINE = 64 << 20  # bytes
ROWS = 256  # read at a time
BUFFER = 1 << 20  # bytes of a column of Parquet read at a time, since row groups may be large
MISSING = object()
Rows = Iterator[tuple[int, Any]]


def value_of(row: Any, key: str) -> Any:
    """Return `row[key]`, or of the key `a.b` the value `row["a"]["b"]`; else MISSING."""
    if not isinstance(row, dict):
        return MISSING
    if key in row:
        return row[key]
    first, dot, rest = key.partition(".")
    return value_of(row.get(first), rest) if dot else MISSING


def json_lines(path: Path, key: str, faults: Faults) -> Rows:
    """Read one JSON object per line, of at most LONGEST_LINE bytes. Blank lines are no rows."""
    stream, _ = compressed.opened(path)
    with stream:
        number = 0
        while line := stream.readline(LONGEST_LINE + 1):
            number += 1
            place = f"{path} line {number:,}"
            if len(line) > LONGEST_LINE:
                faults.refuse(
                    f"longer than {LONGEST_LINE >> 20} MiB", place, "write one document per line"
                )
                while line and not line.endswith(b"\n"):
                    line = stream.readline(LONGEST_LINE)
                continue
            if line.isspace():
                continue
            try:
                errors = "replace" if faults.errors == REPLACE else "strict"
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8", errors))
            except UnicodeDecodeError:
                faults.refuse("not UTF-8", place, "convert it")
                continue
            except (ValueError, RecursionError):
                faults.refuse("not JSON", place, "write one object per line")
                continue
            if not isinstance(row, dict):
                faults.refuse("not an object", place, "write one object per line")
                continue
            yield number, value_of(row, key)


def parquet(path: Path, key: str, faults: Faults) -> Rows:
    """Read a Parquet file without its other columns."""
    from pyarrow import parquet as pq

    with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
        if not _has(file.schema_arrow, key):
            _refuse_schema(path, file.schema_arrow, key, faults)
            return
        yield from _rows(file.iter_batches(ROWS, columns=[key]), key)


def arrow(path: Path, key: str, faults: Faults) -> Rows:
    """Read an Arrow stream, as the `datasets` library saves it."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as batches:
        if not _has(batches.schema, key):
            _refuse_schema(path, batches.schema, key, faults)
            return
        yield from _rows(batches, key)


def broken() -> tuple[type[Exception], ...]:
    """Return what a damaged file raises."""
    import pyarrow as pa

    return (*compressed.BROKEN, pa.ArrowException)


def damage(error: Exception) -> str:
    """Return what is wrong with a file that raised one of `broken()`."""
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"damaged ({one_line(error, 80)})"


def _rows(batches, key: str) -> Rows:
    number = 0
    for batch in batches:
        name = key if key in batch.schema.names else key.partition(".")[0]
        for value in batch.column(name).to_pylist():
            number += 1
            yield number, value_of({name: value}, key)


def _has(schema, key: str) -> bool:
    """Return whether a column, or a field inside one, holds the key."""
    if key in schema.names:
        return True
    first, *rest = key.split(".")
    if first not in schema.names:
        return False
    kind = schema.field(first).type
    for name in rest:
        if not hasattr(kind, "get_field_index") or kind.get_field_index(name) < 0:
            return False
        kind = kind.field(name).type
    return bool(rest)


def _refuse_schema(path: Path, schema, key: str, faults: Faults) -> None:
    columns = ", ".join(schema.names)
    faults.refuse(f"no column {key!r}", str(path), f"it has {columns}; set config.data.text_key")
