"""Compare exponents under several conventions of N and FLOPs: as text, table and figure.

A workdir has every size and FLOP convention that its results record. A CSV has the named columns,
and one set of runs per combination of the cells of `--by`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting, results
from scaling.analysis import run_table
from scaling.commands import output, table_flags, table_rows
from scaling.commands.output import Output, Table
from scaling.config import load as config_lib
from scaling.config.keys import KEYS
from scaling.laws import api as laws
from scaling.laws import conventions
from scaling.laws.bootstrap import Interval
from scaling.laws.conventions import Case, Exponents
from scaling.laws.read import distinct, matching
from scaling.laws.table import CannotFit
from scaling.utils import files, machine, notices
from scaling.utils.errors import UserError
from scaling.utils.table_file import TableFile

SIX_N_D = "6 N D"


def of_table(args) -> int:
    """Compare the columns of a CSV. Return 3 if rows were left out, else 0. Raises UserError."""
    machine.enable_compilation_cache()
    file = table_rows.open_file(args.table, args)
    file = dataclasses.replace(file, rows=matching(file, args.where))
    split, sizes, flops = (table_flags.names(t) for t in (args.by, args.n_params, args.flops))
    own, tokens, budget = table_rows.is_own(file), args.tokens, args.budget
    if own:
        sizes, flops = sizes or _counts_of(file), flops or _prices_of(file)
        budget = budget or table_rows.own_budget(file)
    if not tokens and (own or not flops) and "tokens" in file.header:
        tokens = "tokens"
    if not tokens and max(len(sizes), len(flops)) > 1:
        raise UserError(
            "--tokens is missing; a run has one number of tokens, but each of several columns of "
            "N or FLOPs would give another one"
        )
    cases = []
    for cells in distinct(file, split) if split else [{}]:
        for n_params in sizes or ["n_params"]:
            for column in flops or [""]:
                columns = {
                    "n_params": n_params,
                    "tokens": tokens,
                    "flops": column,
                    "loss": args.loss or "loss",
                    "budget": budget,
                }
                table = laws.read_csv(
                    file,
                    where=cells,
                    units=table_rows.units(file, columns, args.unit),
                    last_of=args.last_of,
                    decimal=args.decimal,
                    **columns,
                )
                label = ", ".join(map(str, cells.values()))
                table = table_rows.in_budgets(table, said=False)
                cases.append(Case(label, n_params, column or SIX_N_D, table, table))
    table_rows.report(*(c.table for c in cases))
    output.warn([str(n) for n in dict.fromkeys(n for c in cases for n in c.table.warnings)])
    confidence = 0.9 if args.confidence is None else args.confidence
    rows = conventions.compare(
        cases,
        method=args.method,
        delta=0.0,
        bootstrap=500 if args.bootstrap is None else args.bootstrap,
        confidence=confidence,
        parametric=False,
    )
    content = _content(rows, cases, Path(args.table).name, args.method, confidence)
    written = []
    if args.out:
        written.append(str(_write(Path(args.out), rows, content, ", ".join(split))))
    output.show(args, _output(rows, content, args.wide, written))
    return table_rows.exit_code(*(c.table for c in cases))


def _counts_of(file: TableFile) -> list[str]:
    """Return the columns of sizes of a study's table; n_params_active only where it differs."""
    names = [n for n in KEYS["laws.n_params"].choices if n in file.header]
    dense = all(row.cells.get("n_params_active", "") in ("", row.cells["n_params"])
                for row in file.rows)  # fmt: skip
    return [n for n in names if not (dense and n == "n_params_active")]


def _prices_of(file: TableFile) -> list[str]:
    return [f"flops_{c}" for c in accounting.CONVENTIONS if f"flops_{c}" in file.header]


def of_study(config: ConfigDict, workdir: Path, args, problems: list[str]) -> None:
    """Compare the conventions of a workdir's table and write `curves/conventions.*`.

    Damaged rows are added to `problems` and left out. Raises CannotFit without a finished run.
    """
    machine.enable_compilation_cache()
    runs, damaged = results.read_table(workdir / "runs.csv")
    problems.extend(damaged)
    cases = []
    dense = all(row.n_params_active == row.n_params for row in runs)
    for n_params in KEYS["laws.n_params"].choices:
        if dense and n_params == "n_params_active":
            continue  # it would repeat `n_params`
        for convention in accounting.CONVENTIONS:
            priced = config_lib.with_values(
                config, {"laws.n_params": n_params, "laws.flops": f"flops_{convention}"}
            )
            cases.append(
                Case(
                    "",
                    n_params,
                    convention,
                    run_table.sweep_table(runs, priced),
                    run_table.sweep_table(runs, priced, config.laws.min_steps),
                )
            )
    if len(cases[0].table) == 0:
        raise CannotFit(f"{workdir}: no finished run of a sweep; run `scaling sweep` first")
    rows = conventions.compare(
        cases,
        method=args.method,
        delta=config.laws.huber_delta,
        bootstrap=config.laws.bootstrap,
        confidence=config.laws.confidence,
        parametric=True,
    )
    content = _content(rows, cases, config.name, args.method, config.laws.confidence)
    picture = _write(workdir / "curves", rows, content, "FLOPs")
    output.show(args, _output(rows, content, args.wide, [str(picture)]))


def _output(rows: list[Exponents], content: dict, wide: bool, written: list[str]) -> Output:
    """Return the exponents as one table of text and one of numbers."""
    texts = [
        {
            "runs": r.label,
            "n_params": r.n_params,
            "flops": r.flops,
            "N* ~ C^a": "-" if r.refused else r.a.brief(),
            "D* ~ C^b": "-" if r.refused else r.b.brief(),
            "minima": _minima(r),
            "notes": "; ".join(map(str, filter(None, (r.refused, *r.notes)))),
        }
        for r in rows
    ]
    numbers = [
        {
            "runs": r.label,
            "n_params": r.n_params,
            "flops": r.flops,
            "estimator": r.estimator,
            **_interval("a", r.a),
            **_interval("b", r.b),
            "minima": r.minima,
            "budgets": r.budgets,
            "notes": text["notes"],
        }
        for r, text in zip(rows, texts, strict=True)
    ]
    for table in (texts, numbers):
        if not any(row["runs"] for row in table):
            for row in table:
                del row["runs"]
    lines = output.text_lines(Table("", texts), wide)
    return Output(content, [Table("Exponents", numbers)], written, [*lines, *written])


def _minima(row: Exponents) -> str:
    """Return the share of budgets with a minimum, or the estimator that needs none."""
    if row.estimator != conventions.ISOFLOP:
        return row.estimator
    return f"{'-' if row.refused else row.minima}/{row.budgets}"


def _interval(name: str, value: Interval) -> dict[str, float]:
    return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}


def _content(
    rows: list[Exponents], cases: list[Case], title: str, method: str, confidence: float
) -> dict[str, Any]:
    """Return what conventions.json holds."""
    left_out = {notice for c in cases for notice in c.table.excluded}
    return {
        "name": "conventions",
        "title": title,
        "equation": "N* = k C^a, D* = k C^b",
        "estimator": f"isoflop: {method} in log N per budget at equal compute of each convention, "
        "power laws through interior minima; L(N, D): a = beta / (alpha + beta) where cost is k N "
        "D",
        "rows": [_as_dict(r) for r in rows],
        "confidence": confidence,
        "table_sha256": {
            " | ".join(filter(None, (c.label, c.n_params, c.flops))): c.table.hash() for c in cases
        },
        "runs_used": sorted({name for c in cases for name in c.table.names}),
        **notices.as_json("runs_left_out", sorted(left_out, key=str)),
    }


def _write(folder: Path, rows: list[Exponents], content: dict[str, Any], split: str) -> Path:
    """Write `folder/conventions.{json,csv,svg,png}`. Return the path of the picture."""
    from scaling.report import conventions as drawing

    files.write_json(folder / "conventions.json", content)
    picture = drawing.picture(rows, content["title"], split, content["confidence"])
    return picture.write(folder / "conventions")


def _as_dict(row: Exponents) -> dict[str, Any]:
    fields = dataclasses.asdict(row)
    return {**fields, "a": row.a.as_dict(), "b": row.b.as_dict()}
