"""Read a table of runs from a file with any column names."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from scaling.laws import checks, read_curves, read_numbers, read_units
from scaling.laws.table import Table, group_budgets, make_table
from scaling.utils import notices, suggest, table_file
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice
from scaling.utils.table_file import Row, TableFile

BLOCKS = "blocks"  # the column of labels that --blocks names

STATUS_NAMES = ("status", "state", "outcome")
NO_RESULT = ("diverged", "failed", "crashed", "killed", "running", "pending", "oom", "nan")


def read_csv(
    path: str | Path | TableFile,
    *,
    drop_highest: int = 0,
    drop_above_flops: float = 0.0,
    where: str | Mapping[str, str] = "",
    flops_per_n_d: float = 6.0,
    units: str | Mapping[str, float | str] = "",
    last_of: str = "",
    blocks: str = "",
    decimal: str = "",
    separator: str = "",
    **columns: str,
) -> Table:
    """Read a table from a file, or from all files of a pattern, with any column names.

    The file is CSV (separated by , ; tab or |), JSON (an object per line) or Parquet, perhaps
    compressed (.gz, .bz2, .xz, .zst). `columns` maps the meaning of a column (n_params, tokens,
    flops, loss, budget, unique_tokens, tokens_per_param, loss_se, seed, x, error, lr, batch) to its
    name in the file. Empty names are ignored. "@name" is the number in the name of a row's file,
    "@name:KEY" the one after KEY. A missing one of tokens and flops is computed from
    C = flops_per_n_d N D. Without a budget column, rows of equal compute are grouped.

    Options:
        where: rows to keep, such as "hparams=base,warmup=long", or a mapping.
        units: factors of columns, such as "n_params=1e6,tokens=1e9", or a mapping; also
            "loss=perplexity" and "flops=PFLOP-days".
        last_of: keep the row of each run with the largest value in this column.
        blocks: a column whose labels become the column "blocks", for `fit(blocks="blocks")`.
        decimal, separator: "comma" or "point"; a separator of cells. Needed where the file leaves
            a doubt.

    Unreadable rows, the `drop_highest` rows of highest loss and rows above `drop_above_flops` are
    left out and listed in `excluded`. `reading` says how the file was read. Raises UserError if the
    file or a column is missing, if a number may be read in two ways, or if no row is usable.
    """
    file = path if isinstance(path, TableFile) else table_file.read(path, separator)
    mapping = {meaning: name.strip() for meaning, name in columns.items() if name.strip()}
    _check_meanings(mapping)
    factors = read_units.parse(units, mapping)
    labels = _label_column(file, mapping, blocks.strip())
    file.require(read_numbers.column(n) for n in mapping.values())
    file.require(filter(None, [last_of.strip(), labels]))
    excluded = list(file.left_out)
    selected: Sequence[Row] = _ended(matching(file, where), where, excluded)
    if last_of.strip():
        selected = read_curves.last_rows(
            file, selected, last_of.strip(), mapping, labels, decimal, excluded
        )
    numbers, reading = read_numbers.read(file, selected, mapping, factors, decimal, excluded)
    kept = [(row, values) for row, values in zip(selected, numbers, strict=True) if values]
    if labels:
        kept = _with_labels(kept, labels, excluded)
    kept = _drop_highest(kept, drop_highest, excluded)
    rows = [row for row, _ in kept]
    data = {m: np.array([v[m] for _, v in kept]) for m in (*mapping, *([BLOCKS] if labels else []))}
    _derive(data, flops_per_n_d)
    if drop_above_flops:
        data, rows = _drop_above(data, rows, drop_above_flops, excluded)
    if not rows:
        reasons = "; ".join(map(str, excluded[:3]))
        raise UserError(f"{file.path}: no usable row of {len(file.rows)}; {reasons}")
    budget = data.pop("budget", None)
    if budget is None and "flops" in data:
        budget = group_budgets(data["flops"])
    table = make_table(**data, budget=budget, names=[row.name for row in rows], excluded=excluded)
    warnings = [
        *checks.odd_rows(table, read_curves.seeds(rows)),
        *read_units.suspicions(table, mapping, set(factors)),
        *read_curves.suspicions(table, rows, mapping, bool(labels or blocks or last_of)),
    ]
    return dataclasses.replace(
        table,
        warnings=tuple(warnings),
        reading=(*file.reading, *reading),
        labels=read_curves.labels(rows, mapping),
    )


def _ended(rows: Sequence[Row], where, excluded: list[Notice]) -> list[Row]:
    """Return the rows whose status, if they have one, is not that of a run without a result.

    The others are added to `excluded`, unless `where` chooses by status.
    """
    names = [c for c in (rows[0].cells if rows else ()) if c.lower() in STATUS_NAMES]
    names = [name for name in names if name not in str(where)]
    kept = []
    for row in rows:
        found = next((n for n in names if row.cells[n].strip().lower() in NO_RESULT), "")
        if not found:
            kept.append(row)
            continue
        text = f"{row.name}: {found}={row.cells[found].strip()}; keep such rows by --where"
        excluded.append(Notice(notices.NO_RESULT, text))
    return kept


def _drop_above(
    data: dict[str, np.ndarray], rows: list[Row], flops: float, excluded: list[Notice]
) -> tuple[dict[str, np.ndarray], list[Row]]:
    """Return the columns and rows of at most `flops`; the others are added to `excluded`."""
    if "flops" not in data:
        raise UserError("--drop_above_flops needs FLOPs; give --flops, or --n_params and --tokens")
    above = data["flops"] > flops
    excluded += [
        Notice(notices.ABOVE_FLOPS, f"{rows[i].name}: above {flops:g} FLOPs")
        for i in np.flatnonzero(above)
    ]
    kept = {m: values[~above] for m, values in data.items()}
    return kept, [row for row, out in zip(rows, above, strict=True) if not out]


def matching(file: TableFile, where: str | Mapping[str, str]) -> tuple[Row, ...]:
    """Return the rows with these values. Raises UserError if a column is missing, or no row is."""
    conditions = _conditions(where) if isinstance(where, str) else dict(where)
    file.require(conditions)
    rows = tuple(
        row for row in file.rows if all(_same(row.cells[c], v) for c, v in conditions.items())
    )
    if file.rows and not rows:
        text = ",".join(f"{column}={value}" for column, value in conditions.items())
        raise UserError(f"{file.path}: no row with {text}; check the values of these columns")
    return rows


def distinct(path: str | Path | TableFile, columns: Iterable[str]) -> list[dict[str, str]]:
    """Return the distinct combinations of cells in these columns, in order of appearance.

    Raises UserError if the file or a column is missing.
    """
    names = tuple(column.strip() for column in columns)
    file = path if isinstance(path, TableFile) else table_file.read(path)
    file.require(names)
    cells = dict.fromkeys(tuple(row.cells[c] for c in names) for row in file.rows)
    return [dict(zip(names, values, strict=True)) for values in cells]


def _check_meanings(mapping: Mapping[str, str]) -> None:
    """Raise UserError at an unknown meaning, or one that needs another."""
    for meaning in mapping:
        if meaning not in read_numbers.KINDS:
            near = suggest.nearest(meaning, read_numbers.KINDS)
            hint = f"did you mean {near}? " if near else ""
            raise UserError(
                f"{meaning}: no meaning of a column; {hint}choose from "
                f"{', '.join(read_numbers.KINDS)}"
            )
    if {"n_params", "loss"} <= set(mapping) and not {
        "tokens",
        "flops",
        "tokens_per_param",
    } & set(mapping):
        raise UserError("give --tokens or --flops, the column of tokens or of training FLOPs")


def _label_column(file: TableFile, mapping: Mapping[str, str], blocks: str) -> str:
    """Return the file's column that labels the blocks; "" if a column of numbers does."""
    if not blocks or blocks in mapping:
        return ""
    if blocks in read_numbers.KINDS and blocks not in file.header:
        raise UserError(
            f"{file.path}: --blocks={blocks}: no column {blocks!r}; name it with "
            f"--{blocks}=COLUMN, or resample by another column, --blocks=COLUMN"
        )
    return blocks


def _with_labels(
    kept: Sequence[tuple[Row, dict[str, float]]], column: str, excluded: list[Notice]
) -> list[tuple[Row, dict[str, float]]]:
    """Number the labels of a column from 1. A row without one is left out."""
    codes: dict[str, int] = {}
    made = []
    for row, values in kept:
        label = row.cells[column]
        if label:
            made.append((row, {**values, BLOCKS: float(codes.setdefault(label, len(codes) + 1))}))
        else:
            excluded.append(Notice(notices.UNREADABLE_CELL, f"{row.name}: {column} is empty"))
    return made


def _derive(data: dict[str, np.ndarray], flops_per_n_d: float) -> None:
    """Add the one of tokens and flops that follows from the other."""
    if "n_params" in data and "tokens_per_param" in data and "tokens" not in data:
        data["tokens"] = data["n_params"] * data["tokens_per_param"]
    if "n_params" in data and "tokens" in data and "flops" not in data:
        data["flops"] = flops_per_n_d * data["n_params"] * data["tokens"]
    if "n_params" in data and "flops" in data and "tokens" not in data:
        data["tokens"] = data["flops"] / (flops_per_n_d * data["n_params"])


def _drop_highest(kept, count: int, excluded: list[Notice]):
    if count < 0:
        raise UserError(f"--drop_highest={count}; must be 0 or more")
    if not count:
        return kept
    if kept and "loss" not in kept[0][1]:
        raise UserError(
            "--drop_highest leaves out the highest losses, but this form reads no losses"
        )
    ordered = sorted(range(len(kept)), key=lambda i: kept[i][1]["loss"])
    dropped = set(ordered[max(len(ordered) - count, 0) :])
    excluded += [
        Notice(notices.HIGHEST_LOSS, f"{kept[i][0].name}: among the {count} highest losses")
        for i in sorted(dropped)
    ]
    return [item for i, item in enumerate(kept) if i not in dropped]


def _conditions(where: str) -> dict[str, str]:
    conditions = {}
    for part in filter(None, next(csv.reader([where]), [])):
        if "=" not in part:
            raise UserError(f"--where={where!r}: {part!r} is not COLUMN=VALUE")
        column, value = part.split("=", 1)
        conditions[column.strip()] = value.strip()
    return conditions


def _same(cell: str, value: str) -> bool:
    try:
        return float(cell) == float(value)
    except ValueError:
        return cell == value.strip()
