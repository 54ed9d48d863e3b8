"""Read a table of any common format into rows of text cells; numbers are read later.

Text is CSV with one of , ; tab | between the cells, or JSON: an object per line, or one list of
objects. Parquet is read by pyarrow. A row whose cells do not match the header is left out and
named; a file in which most rows are such is refused.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scaling.utils import notices, number_text, suggest, table_bytes
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice
from scaling.utils.number_text import cut
from scaling.utils.table_objects import Records, read_json, read_parquet
from scaling.utils.table_text import SEPARATORS, read_separated

FILE = "@name"  # the column that holds the name of each row's file


@dataclass(frozen=True)
class Row:
    """Cells by column, and the row's name: "row 4", or "a.csv row 4" among several files."""

    name: str
    cells: Mapping[str, str]


@dataclass(frozen=True)
class TableFile:
    """A table as text."""

    path: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    reading: tuple[Notice, ...] = ()  # how the file was read, where that is not plain CSV
    left_out: tuple[Notice, ...] = ()  # one per row
    repeated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # name -> its places
    lacking: Mapping[str, str] = field(default_factory=dict)  # name -> a file without it

    def require(self, columns: Iterable[str]) -> None:
        """Raise UserError where a column is missing, in a file or at all, or ambiguous."""
        for column in columns:
            if column in self.repeated:
                places = " and ".join(map(str, self.repeated[column]))
                raise UserError(
                    f"{self.path}: columns {places} are both named {column!r} and differ; rename "
                    "one"
                )
            if column in self.lacking:
                raise UserError(
                    f"{self.lacking[column]}: no column {column!r}, as other files have"
                )
            if column not in self.header and column != FILE:
                raise UserError(f"{self.path}: {self._missing(column)}")

    def _missing(self, column: str) -> str:
        near = suggest.nearest(column, filter(None, self.header))
        hint = f"; did you mean {near!r}?" if near else ""
        found = ", ".join(cut(name, quoted=False) for name in self.header if name)
        (only,) = self.header if len(self.header) == 1 else ("",)
        if any(mark in only for mark in SEPARATORS):
            hint = "; every row is one quoted cell: remove the quotes around whole rows"
        elif len(only.split()) > 1:
            hint = "; columns separated by spaces? save it with commas"
        elif self.header and all(number_text.is_number(n) for n in self.header):
            hint = "; the first row holds numbers: add a header with the names of the columns"
        elif "" in self.header[1:]:
            hint += f"; column {self.header.index('', 1) + 1} has no name"
        return f"no column {column!r}{hint} (found {found})"


def read(path: str | Path | Sequence[str], separator: str = "") -> TableFile:
    """Read a file, the files of a pattern such as 'runs/*.csv', or several files as one table.

    `separator` is one of , ; | and tab, where the file leaves a doubt. Raises UserError if a file
    is missing or damaged, is no table, or has no row.
    """
    separator = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
    if separator and separator not in SEPARATORS:
        raise UserError(f"--separator={separator}: choose one of , ; | tab")
    paths = _paths([str(path)] if isinstance(path, str | Path) else [str(p) for p in path])
    tables = [_read_one(Path(p), separator) for p in paths]
    return tables[0] if len(tables) == 1 else _joined(tables)


def _paths(given: Sequence[str]) -> list[str]:
    """Return the files of all names and patterns, in the order of names. Raises UserError."""
    found: list[str] = []
    for name in given:
        if os.path.exists(name) or not glob.has_magic(name):
            found.append(name)
            continue
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            raise UserError(f"{name}: no file matches this pattern")
        found += matches
    return list(dict.fromkeys(found))


def _joined(tables: Sequence[TableFile]) -> TableFile:
    """Return several files as one table. `FILE` is the part of their paths that differs."""
    common = os.path.commonpath([Path(t.path).parent for t in tables])
    names = [os.path.relpath(t.path, common) for t in tables]
    header = tuple(dict.fromkeys(column for t in tables for column in t.header))
    lacking = {c: t.path for c in header for t in reversed(tables) if c not in t.header}
    kinds: dict[tuple[notices.Kind, str], list[str]] = {}
    for table, name in zip(tables, names, strict=True):
        for notice in table.reading:
            kinds.setdefault((notice.kind, notice.text), []).append(name)
    return TableFile(
        f"{common}/ ({len(tables)} files)",
        header,
        tuple(
            Row(f"{name} {row.name}", {**row.cells, FILE: _stem(name)})
            for t, name in zip(tables, names, strict=True)
            for row in t.rows
        ),
        (
            Notice(notices.READ_AS, f"{len(tables)} files as one table"),
            *(Notice(k, f"{text} ({_some(files)})") for (k, text), files in kinds.items()),
        ),
        tuple(
            Notice(n.kind, f"{name} {n.text}")
            for t, name in zip(tables, names, strict=True)
            for n in t.left_out
        ),
        {c: places for t in tables for c, places in t.repeated.items()},
        lacking,
    )


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _stem(name: str) -> str:
    """Return the path without the suffixes of a table."""
    known = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet", ".gz", ".bz2", ".xz", ".zst")
    while name.lower().endswith(known):
        name = name.rpartition(".")[0]
    return name


def _read_one(path: Path, separator: str) -> TableFile:
    content = table_bytes.load(path)
    reading: list[Notice] = []
    if content.startswith(table_bytes.PARQUET):
        header, records = read_parquet(content, path)
        bad: dict[int, str] = {}
    else:
        text, encoding = table_bytes.decode(content, path)
        if not text.strip():
            raise UserError(f"{path}: empty file; it needs a header and a row per run")
        if encoding:
            reading.append(Notice(notices.READ_AS, f"text read as {encoding}"))
        if text.lstrip()[0] in "{[":
            header, records, bad = read_json(text, path)
        else:
            header, records, bad = read_separated(text, path, separator, reading)
    if not records and not bad:
        raise UserError(f"{path}: a header and no row; add a row per run")
    header, records, repeated = _unique(header, records)
    name = _stem(path.name)
    rows = tuple(
        Row(f"row {number}", {**dict(zip(header, cells, strict=True)), FILE: name})
        for number, cells in records
    )
    left_out = tuple(
        Notice(notices.MALFORMED_ROW, f"row {number}: {text}") for number, text in bad.items()
    )
    return TableFile(str(path), tuple(header), rows, tuple(reading), left_out, repeated)


def _unique(
    header: list[str], records: Records
) -> tuple[list[str], Records, dict[str, tuple[int, ...]]]:
    """Return the columns of distinct names, and the places of equal names with other cells."""
    counts = Counter(header)
    if max(counts.values()) == 1:
        return header, records, {}
    first = {name: header.index(name) for name in counts}
    repeated = {}
    for name in counts:
        places = [i for i, other in enumerate(header) if other == name]
        if name and any(len({cells[i] for i in places}) > 1 for _, cells in records):
            repeated[name] = tuple(i + 1 for i in places)
    kept = [(n, [cells[i] for i in first.values()]) for n, cells in records]
    return list(first), kept, repeated
