"""Read Parquet and JSON into text cells: one object per line, or one list of objects."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from scaling.utils.errors import UserError, one_line
from scaling.utils.number_text import cut

Records = list[tuple[int, list[str]]]  # (number in the file, cells in the order of the header)


def read_parquet(content: bytes, path: Path) -> tuple[list[str], Records]:
    """Return the header and the rows, numbered from 1."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(content))
        columns = [column.to_pylist() for column in table.columns]
    except (pa.ArrowException, OSError, ValueError) as error:
        text = one_line(error, 80)
        raise UserError(f"{path}: damaged Parquet file ({text}); write it again") from None
    rows = zip(*columns, strict=True)
    return list(table.column_names), [(i, [_text(v) for v in row]) for i, row in enumerate(rows, 1)]


def _text(value: Any) -> str:
    """Return a typed value as a cell; floats read back with the same bits."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else str(value)


def read_json(text: str, path: Path) -> tuple[list[str], Records, dict[int, str]]:
    """Return (header, rows by line or place, lines that are no object with the reason)."""
    found: list[tuple[int, Any]] = []
    bad: dict[int, str] = {}
    try:
        whole = json.loads(text, object_pairs_hook=_object)
    except RepeatedKey as error:
        whole = None
        if "\n" not in text.strip():
            raise UserError(f"{path}: {error}") from None
    except ValueError:
        whole = None
    if isinstance(whole, list):
        found = list(enumerate(whole, start=1))
    elif isinstance(whole, dict):
        found = [(1, whole)]
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    found.append((number, json.loads(line, object_pairs_hook=_object)))
                except ValueError as error:
                    bad[number] = f"not JSON ({one_line(error, 60)})"
    for number, value in found:
        if not isinstance(value, dict):
            bad[number] = "not an object of columns and values"
        elif any(isinstance(v, dict | list) for v in value.values()) and len(found) == 1:
            raise UserError(f"{path}: one object of columns; write one object per line and run")
    objects = [(number, value) for number, value in found if number not in bad]
    if not objects:
        raise UserError(f'{path}: not JSON; write one object per line, such as {{"loss": 3.1}}')
    header = list(dict.fromkeys(str(key).strip() for _, value in objects for key in value))
    records = []
    for number, value in objects:
        cells = {key.strip(): _text(v) for key, v in value.items()}
        records.append((number, [cells.get(name, "") for name in header]))
    return header, records, dict(sorted(bad.items()))


class RepeatedKey(ValueError):
    """An object of JSON names a key twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if repeated:
        raise RepeatedKey(f"key {cut(repeated[0])} occurs twice")
    return dict(pairs)
