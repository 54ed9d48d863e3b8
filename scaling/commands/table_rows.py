"""Read the tables of `fit`, `gain`, `design` and `conventions`: files, patterns, workdirs.

A table that this program wrote (`runs.csv`, `runs.parquet`, a workdir) needs no flags: its columns
are known, and rows that a study leaves out of its fit are left out here, too.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from scaling.commands import table_flags
from scaling.laws import api as laws
from scaling.laws import read as reader
from scaling.laws.table import Table as Runs
from scaling.utils import notices, table_file
from scaling.utils.errors import EXIT_INCOMPLETE, UserError
from scaling.utils.notices import Notice
from scaling.utils.table_file import TableFile

OWN = {"run_id", "status", "reason", "role", "n_params", "tokens", "flops_exact", "loss"}
OWN_COLUMNS = {"flops": "flops_exact", "batch": "batch_tokens", "budget": "budget"}
STANDARD = ("n_params", "tokens", "unique_tokens", "x", "error", "lr", "batch")
OF_TOKENS = ("tokens", "flops", "tokens_per_param")  # any of them tells the tokens of a run


def open_file(path: str | Sequence[str], args) -> TableFile:
    """Return the table as text, of a file, a pattern in quotes, several files or a workdir.

    Of a study's own table only finished runs of the sweep are kept, unless --where names their
    status or role. Raises UserError.
    """
    paths = [path] if isinstance(path, str) else list(path)
    file = table_file.read([_in_workdir(p) for p in paths], args.separator)
    if not is_own(file):
        return file
    asked = {c for c in ("status", "role") if f"{c}=" in args.where}
    rows, left_out = [], list(file.left_out)
    for row in file.rows:
        status, role = row.cells["status"], row.cells["role"]
        if "status" not in asked and status != "done":
            text = f"{row.name}: {status}, {row.cells['reason']}"
            left_out.append(Notice(notices.UNFINISHED_RUN, text))
        elif "role" not in asked and role != "sweep":
            text = f"{row.name}: {role} run, not of the sweep; --where=role={role} keeps it"
            left_out.append(Notice(notices.OTHER_ROLE, text))
        else:
            rows.append(row)
    if not rows:
        reasons = "; ".join(map(str, left_out[:3]))
        raise UserError(f"{file.path}: no finished run of a sweep; {reasons}")
    return dataclasses.replace(file, rows=tuple(rows), left_out=tuple(left_out))


def is_own(file: TableFile) -> bool:
    """Return whether this program wrote the table."""
    return set(file.header) >= OWN


def _in_workdir(path: str) -> str:
    """Return the table of a workdir, or the path itself. Raises UserError at another folder."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    for name in ("runs.csv", "runs.parquet"):
        if (folder / name).is_file():
            return str(folder / name)
    raise UserError(
        f"{path}: a folder without runs.csv; `scaling sweep --workdir={path}` writes it; the files "
        f"of other folders are read as '{path}/*.csv'"
    )


def read(file: TableFile, args, needed: tuple[str, ...], where: str = "") -> Runs:
    """Return the rows as numbers. Print those left out, and how the file was read, to stderr.

    A needed column needs no flag if it has its standard name.
    """
    columns = {name: getattr(args, name) for name in (*table_flags.COLUMNS, "loss")}
    columns["loss"] = args.loss if "loss" in needed else ""
    own = is_own(file)
    standard = {name: OWN_COLUMNS.get(name, name) if own else name for name in STANDARD}
    for name in ("n_params", "x", "error", "lr", "batch", "unique_tokens"):
        if not columns[name] and name in needed:
            columns[name] = standard[name]
    if "loss" in needed and {"lr", "batch"} & set(needed):  # two that are tuned together
        for name in ("lr", "batch"):
            columns[name] = columns[name] or _if_in(file, standard[name])
    if {"n_params", "tokens"} & set(needed):
        if not any(columns[name] for name in OF_TOKENS):
            columns["tokens"] = _if_in(file, "tokens")
        columns["flops"] = columns["flops"] or _if_in(file, "flops_exact")
        columns["budget"] = columns["budget"] or own_budget(file)
    table = laws.read_csv(
        file,
        drop_highest=args.drop_highest,
        drop_above_flops=args.drop_above_flops,
        where=",".join(filter(None, (args.where, where))),
        units=units(file, columns, args.unit),
        last_of=args.last_of,
        blocks=args.blocks,
        decimal=args.decimal,
        **columns,
    )
    report(table)
    return table


def _if_in(file: TableFile, column: str) -> str:
    return column if column in file.header else ""


def own_budget(file: TableFile) -> str:
    """Return the column of planned IsoFLOP budgets in a study's table; "" if none is planned."""
    planned = is_own(file) and any(r.cells.get("budget", "0") not in ("0", "0.0", "")
                                   for r in file.rows)  # fmt: skip
    return "budget" if planned else ""


def units(file: TableFile, columns: dict[str, str], stated: str) -> str:
    """Return --unit. A study's own columns are in the units of this program: nothing to suspect."""
    known = [f"{meaning}=1" for meaning, name in columns.items() if name and is_own(file)]
    return ",".join(filter(None, (*known, stated)))


def in_budgets(table: Runs, said: bool = True) -> Runs:
    """Return the rows that belong to an IsoFLOP budget, with a warning of those that do not.

    With `said` those left out are printed.
    """
    inside = table.budget > 0
    out = np.flatnonzero(~inside)
    if not len(out) or not inside.any():
        return table
    excluded = [
        Notice(
            notices.NO_BUDGET,
            f"{table.names[i]}: no budget at {table.flops[i]:.4g} FLOPs"
            if "flops" in table
            else f"{table.names[i]}: no budget",
        )
        for i in out
    ]
    warning = Notice(
        notices.NO_BUDGET,
        f"{len(out)} of {len(table)} rows belong to no budget, a group of 4 or more rows within 5% "
        "of compute; the minima may move with them: name the planned budgets with --budget=COLUMN",
    )
    if said:
        _print_left_out(excluded)
    return dataclasses.replace(
        table.rows(inside),
        excluded=(*table.excluded, *excluded),
        warnings=(*table.warnings, warning),
    )


def report(*tables: Runs) -> None:
    """Print how the tables were read and which rows are left out to stderr, each line once."""
    for line in dict.fromkeys(n.text for table in tables for n in table.reading):
        print(f"read: {line}", file=sys.stderr)
    _print_left_out(dict.fromkeys(n for table in tables for n in table.excluded))


def _print_left_out(excluded: Iterable[Notice]) -> None:
    for line in notices.lines(excluded):
        print(f"left out: {line}", file=sys.stderr)


def exit_code(*tables: Runs) -> int:
    """Return 3 where rows were left out that no flag asks to leave out."""
    excluded = [notice for table in tables for notice in table.excluded]
    return 0 if all(notice.kind.requested for notice in excluded) else EXIT_INCOMPLETE


def flops_per_n_d(table: Runs) -> float:
    """Return k in C = k N D, the table's median; 6 for tables of compute alone."""
    if not {"n_params", "tokens", "flops"} <= set(table.columns):
        return 6.0
    return float(np.median(table.flops / (table.n_params * table.tokens)))


def block_column(table: Runs, blocks: str) -> str:
    """Return the table's column that --blocks resamples."""
    labelled = blocks and blocks not in table.columns and reader.BLOCKS in table.columns
    return reader.BLOCKS if labelled else blocks
