"""Turn the cells of a table into numbers, and say how they were read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scaling.laws import read_units
from scaling.utils import notices, number_text, table_file
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice
from scaling.utils.number_text import COUNT, FLOPS, PLAIN, SHARE, cut
from scaling.utils.table_file import Row, TableFile

KINDS = {
    "n_params": COUNT,
    "tokens": COUNT,
    "flops": FLOPS,
    "loss": SHARE,
    "budget": FLOPS,
    "unique_tokens": COUNT,
    "tokens_per_param": COUNT,
    "loss_se": SHARE,
    "seed": PLAIN,
    "x": FLOPS,
    "error": SHARE,
    "lr": PLAIN,
    "batch": COUNT,
}
SIGNED = ("budget", "seed")  # columns that may hold 0 or less
FEATURES = {
    "suffix": "suffixes read as factors",
    "percent": "percent read as hundredths",
    "thousands": "thousands separators removed",
    "decimal comma": "decimal commas read",
}


def column(name: str) -> str:
    """Return the column of cells that a name stands for: "@name:N" is in "@name"."""
    return table_file.FILE if name.startswith(f"{table_file.FILE}:") else name


def read(
    file: TableFile,
    rows: Sequence[Row],
    mapping: Mapping[str, str],
    factors: Mapping[str, float | str],
    decimal: str,
    excluded: list[Notice],
) -> tuple[list[dict[str, float]], list[Notice]]:
    """Return (numbers by meaning per row, notices on the reading). An unreadable row has none.

    It is appended to `excluded`. Raises UserError at a column that may be read in two ways.
    """
    names = {m: name for m, name in mapping.items() if column(name) != table_file.FILE}
    columns = {name: [(r.name, r.cells[name]) for r in rows] for name in names.values()}
    kinds = {name: KINDS[meaning] for meaning, name in names.items()}
    try:
        styles = number_text.styles(columns, kinds, decimal)
    except UserError as error:
        raise UserError(f"{file.path}: {error}") from None
    examples: dict[tuple[str, str], str] = {}
    made: list[dict[str, float]] = []
    for row in rows:
        values: dict[str, float] = {}
        features = []
        try:
            for meaning, name in mapping.items():
                if meaning in names:
                    values[meaning], feature = _number(row, name, meaning, styles[name])
                    features.append((name, feature, values[meaning]))
                else:
                    values[meaning] = _of_name(file, row, name, meaning)
                    features.append((name, "name", values[meaning]))
                if meaning in factors and features[-1][1] in ("suffix", "percent"):
                    raise UserError(
                        f"{file.path}: {row.name}: {name}={cut(row.cells[column(name)])} states "
                        f"its unit, and --unit={meaning} another one; leave one of them out"
                    )
                if meaning in factors:
                    values[meaning] = read_units.scaled(values[meaning], factors[meaning])
        except ValueError as error:
            excluded.append(Notice(notices.UNREADABLE_CELL, f"{row.name}: {error}"))
            values = {}
        for name, feature, number in features:
            cell = row.cells[column(name)]
            examples.setdefault((name, feature), f"{cut(cell)} = {number:.12g}")
        made.append(values)
    _refuse_some_percent(file, examples)
    if not decimal:
        _refuse_split_decimals(file, rows, names)
    return made, _said(examples)


def _number(row: Row, name: str, meaning: str, style: number_text.Style) -> tuple[float, str]:
    """Return (the number of a cell, how it was read). Raises ValueError with the reason."""
    cell = row.cells[name]
    try:
        value, feature = number_text.value(cell, style, KINDS[meaning])
    except ValueError:
        raise ValueError(f"{name}={cut(cell)} is not a number") from None
    if value == 0 and meaning == "loss_se":
        raise ValueError(
            f"{name}={cut(cell)} would give the row all the weight; state its error, or fit "
            "without --loss_se"
        )
    if not math.isfinite(value) or (value <= 0 and meaning not in SIGNED):
        raise ValueError(f"{name}={cut(cell)} is not positive and finite")
    return value, feature


def _of_name(file: TableFile, row: Row, name: str, meaning: str) -> float:
    """Return the number in the name of the row's file. Raises UserError if it has none or many."""
    key = name.partition(":")[2]
    stem = row.cells[table_file.FILE]
    try:
        value = number_text.in_name(stem, key)
    except ValueError:
        after = f" after {key!r}" if key else ""
        raise UserError(
            f"{file.path}: --{meaning}={name}: the name {cut(stem)} does not hold one number"
            f"{after}; name what stands before it, e.g. --{meaning}=@name:N for N=70M, or add a "
            f"column {meaning}"
        ) from None
    if value <= 0 and meaning not in SIGNED:
        raise UserError(
            f"{file.path}: --{meaning}={name}: {cut(stem)} holds {value:g}, no {meaning}"
        )
    return value


def _refuse_some_percent(file: TableFile, examples: Mapping[tuple[str, str], str]) -> None:
    """Raise UserError if only some cells of a column have a percent sign."""
    for name, feature in examples:
        other = next((examples[n, f] for n, f in examples if n == name and f != "percent"), "")
        if feature == "percent" and other:
            raise UserError(
                f"{file.path}: column {name} has percent ({examples[name, feature]}) and plain "
                f"numbers ({other}); write all of them in one way"
            )


def _refuse_split_decimals(file: TableFile, rows: Sequence[Row], names: Mapping[str, str]) -> None:
    """Raise UserError at whole losses beside a column of digits: 6,4813 in two cells, unquoted."""
    for name in (names[m] for m in ("loss", "error") if m in names):
        after = file.header[file.header.index(name) + 1 :][:1]
        if not rows or not after or after[0] in names.values():
            continue
        if all(row.cells[c].strip().isdigit() for row in rows for c in (name, *after)):
            raise UserError(
                f"{file.path}: {rows[0].name}: {name}={cut(rows[0].cells[name])} and every other "
                f"one is whole, and the next column ({after[0] or 'no name'}) holds only digits: "
                "decimal commas? quote such cells, or state --decimal=point"
            )


def _said(examples: Mapping[tuple[str, str], str]) -> list[Notice]:
    """Return a line per way of reading that is not Python's."""
    lines = []
    for feature, text in FEATURES.items():
        found = [(name, example) for (name, f), example in examples.items() if f == feature]
        if found:
            names = ", ".join(name for name, _ in found)
            lines.append(f"{names}: {text}, {found[0][1]}")
    lines += [
        f"{name}: numbers from the names of files, {text}"
        for (name, feature), text in examples.items()
        if feature == "name"
    ]
    return [Notice(notices.READ_AS, line) for line in lines]
