"""Read a table of runs from a CSV with any column names."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from scaling.laws import checks
from scaling.laws.table import Table, group_budgets, make_table
from scaling.utils import notices, suggest
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice

SIGNED = ("budget", "seed")  # columns that may hold 0 or less


def read_csv(
    path: str | Path,
    *,
    drop_highest: int = 0,
    drop_above_flops: float = 0.0,
    where: str | Mapping[str, str] = "",
    flops_per_n_d: float = 6.0,
    **columns: str,
) -> Table:
    """Read a table from a CSV with any column names.

    `columns` maps the meaning of a column (n_params, tokens, flops, loss, budget, unique_tokens,
    tokens_per_param, loss_se, seed, x, error, lr, batch) to its name in the file. Empty names are
    ignored. A missing one of tokens and flops is computed from C = flops_per_n_d N D. Without a
    budget column, rows of equal compute are grouped. `where` keeps rows by equality: a string such
    as "hparams=base,warmup=long", or a mapping.

    Unreadable rows, the `drop_highest` rows of highest loss and rows above `drop_above_flops` are
    left out and listed in `excluded`. Raises UserError if the file or a column is missing, or if no
    row is usable.
    """
    file = Path(path)
    mapping = {meaning: name for meaning, name in columns.items() if name}
    if {"n_params", "loss"} <= set(mapping) and not {
        "tokens",
        "flops",
        "tokens_per_param",
    } & set(mapping):
        raise UserError("give --tokens or --flops, the column of tokens or of training FLOPs")
    conditions = _conditions(where) if isinstance(where, str) else dict(where)
    rows = _rows(file, (*mapping.values(), *conditions))
    selected_rows = [(k, r) for k, r in rows if all(_same(r[c], v) for c, v in conditions.items())]
    if rows and not selected_rows:
        raise UserError(
            f"{file}: no row with {_conditions_text(conditions)}; check the values of these columns"
        )
    readable_rows: list[tuple[int, dict[str, float]]] = []
    excluded: list[Notice] = []
    for number, row in selected_rows:
        try:
            values = {meaning: _number(row, name, meaning) for meaning, name in mapping.items()}
        except ValueError as error:
            excluded.append(Notice(notices.UNREADABLE_CELL, f"row {number}: {error}"))
            continue
        readable_rows.append((number, values))
    readable_rows = _drop_highest(readable_rows, drop_highest, excluded)
    data = {m: np.array([v[m] for _, v in readable_rows]) for m in mapping}
    numbers = np.array([number for number, _ in readable_rows])
    if "n_params" in data and "tokens_per_param" in data and "tokens" not in data:
        data["tokens"] = data["n_params"] * data["tokens_per_param"]
    if "n_params" in data and "tokens" in data and "flops" not in data:
        data["flops"] = flops_per_n_d * data["n_params"] * data["tokens"]
    if "n_params" in data and "flops" in data and "tokens" not in data:
        data["tokens"] = data["flops"] / (flops_per_n_d * data["n_params"])
    if drop_above_flops and "flops" not in data:
        raise UserError("--drop_above_flops needs FLOPs; give --flops, or --n_params and --tokens")
    if drop_above_flops:
        above = data["flops"] > drop_above_flops
        excluded += [
            Notice(notices.ABOVE_FLOPS, f"row {k}: above {drop_above_flops:g} FLOPs")
            for k in numbers[above]
        ]
        data = {m: values[~above] for m, values in data.items()}
        numbers = numbers[~above]
    if not len(numbers):
        reasons = "; ".join(map(str, excluded[:3]))
        raise UserError(f"{file}: no usable row of {len(rows)}; {reasons}")
    budget = data.pop("budget", None)
    if budget is None and "flops" in data:
        budget = group_budgets(data["flops"])
    names = [f"row {number}" for number in numbers]
    table = make_table(**data, budget=budget, names=names, excluded=excluded)
    return dataclasses.replace(table, warnings=tuple(checks.odd_rows(table)))


def distinct(path: str | Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """Return the distinct combinations of cells in these columns, in order of appearance.

    Raises UserError if the file or a column is missing.
    """
    names = tuple(columns)
    cells = dict.fromkeys(tuple(row[c] for c in names) for _, row in _rows(Path(path), names))
    return [dict(zip(names, values, strict=True)) for values in cells]


def _rows(file: Path, columns: Iterable[str]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, cells) of every row. Raises UserError if a column is missing."""
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            header, rows = list(reader.fieldnames or []), list(enumerate(reader, start=2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: not a CSV in UTF-8 ({error}); save it as one") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    for column in columns:
        if column not in header:
            near = suggest.nearest(column, header)
            hint = f"; did you mean {near!r}?" if near else ""
            raise UserError(f"{file}: no column {column!r}{hint} (found {', '.join(header)})")
    return rows


def _number(row: dict, name: str, meaning: str) -> float:
    try:
        value = float(row[name])
    except (TypeError, ValueError):
        raise ValueError(f"{name}={row[name]!r} is not a number") from None
    if not math.isfinite(value) or (value <= 0 and meaning not in SIGNED):
        raise ValueError(f"{name}={row[name]!r} is not positive and finite")
    return value


def _drop_highest(readable_rows, count: int, excluded: list[Notice]):
    if count < 0:
        raise UserError(f"--drop_highest={count}; must be 0 or more")
    if not count:
        return readable_rows
    if readable_rows and "loss" not in readable_rows[0][1]:
        raise UserError(
            "--drop_highest leaves out the highest losses, but this form reads no losses"
        )
    ordered = sorted(readable_rows, key=lambda item: item[1]["loss"])
    dropped = {number for number, _ in ordered[max(len(ordered) - count, 0) :]}
    excluded += [
        Notice(notices.HIGHEST_LOSS, f"row {k}: among the {count} highest losses")
        for k in sorted(dropped)
    ]
    return [item for item in readable_rows if item[0] not in dropped]


def _conditions(where: str) -> dict[str, str]:
    conditions = {}
    for part in filter(None, next(csv.reader([where]), [])):
        if "=" not in part:
            raise UserError(f"--where={where!r}: {part!r} is not COLUMN=VALUE")
        column, value = part.split("=", 1)
        conditions[column.strip()] = value.strip()
    return conditions


def _conditions_text(conditions: Mapping[str, str]) -> str:
    return ",".join(f"{column}={value}" for column, value in conditions.items())


def _same(cell: str, value: str) -> bool:
    try:
        return float(cell) == float(value)
    except (TypeError, ValueError):
        return cell == value
