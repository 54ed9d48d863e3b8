"""`scaling conventions`: one table under several conventions of N and FLOPs, as text, table and figure.

Of a workdir: every size and FLOP convention that its results record. Of a CSV: the columns named, and one
set of runs per combination of the cells of `--by`.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting, results
from scaling.analysis import compute
from scaling.config import constraints
from scaling.config import load as config_lib
from scaling.laws import api as laws
from scaling.laws import conventions
from scaling.laws.bootstrap import Interval
from scaling.laws.conventions import Case, Exponents
from scaling.laws.read import distinct
from scaling.laws.table import CannotFit
from scaling.utils import files, machine
from scaling.utils.errors import EXIT_INCOMPLETE, UserError

SIX_N_D = "6 N D"


def of_table(args) -> int:
    """Compare the columns of a CSV; returns the exit code, 3 where rows had to be left out."""
    machine.enable_compilation_cache()
    by, sizes, flops = (_names(text) for text in (args.by, args.n_params, args.flops))
    if not args.tokens and max(len(sizes), len(flops)) > 1:
        raise UserError(
            "--tokens is missing; runs have one number of tokens, which several columns of N or FLOPs "
            "would each give otherwise"
        )
    cases = []
    for cells in distinct(args.table, by) if by else [{}]:
        for n_params in sizes or ["n_params"]:
            for column in flops or [""]:
                table = laws.read_csv(
                    args.table,
                    where=cells,
                    n_params=n_params,
                    tokens=args.tokens,
                    flops=column,
                    loss=args.loss or "loss",
                    budget=args.budget,
                )
                label = ", ".join(map(str, cells.values()))
                cases.append(Case(label, n_params, column or SIX_N_D, table, table))
    left_out = dict.fromkeys(line for c in cases for line in c.table.excluded)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    for line in dict.fromkeys(line for c in cases for line in c.table.warnings):
        print(f"warning: {line}", file=sys.stderr)
    confidence = 0.9 if args.confidence is None else args.confidence
    rows = conventions.compare(
        cases,
        method=args.method,
        delta=0.0,
        bootstrap=500 if args.bootstrap is None else args.bootstrap,
        confidence=confidence,
        parametric=False,
    )
    _show(rows)
    if args.out:
        title = Path(args.table).name
        print(_write(Path(args.out), rows, cases, title, ", ".join(by), args.method, confidence))
    return EXIT_INCOMPLETE if left_out else 0


def of_study(config: ConfigDict, workdir: Path, args, problems: list[str]) -> None:
    """Compare the conventions of a workdir's table and write `curves/conventions.*`.

    Damaged rows are named in `problems` and left out.
    """
    machine.enable_compilation_cache()
    found, damaged = results.read_table(workdir / "runs.csv")
    problems.extend(damaged)
    cases = []
    dense = all(row.n_params_active == row.n_params for row in found)
    for n_params in constraints.CHOICES["laws.n_params"]:
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
                    compute.sweep_table(found, priced),
                    compute.sweep_table(found, priced, config.laws.min_steps),
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
    _show(rows)
    options = args.method, config.laws.confidence
    print(_write(workdir / "curves", rows, cases, config.name, "FLOPs", *options))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _show(rows: list[Exponents]) -> None:
    wide = [max(len(getattr(r, k)) for r in rows) for k in ("label", "n_params", "flops")]
    titles = ("", "n_params", "flops")
    wide = [max(w, len(t)) for w, t in zip(wide, titles, strict=True)]
    heads = "  ".join(f"{t:{w}}" for t, w in zip(titles, wide, strict=True) if w)
    print(f"{heads}  {'N* ~ C^a':20}  {'D* ~ C^b':20}  minima  notes")
    for r in rows:
        names = zip((r.label, r.n_params, r.flops), wide, strict=True)
        cells = "  ".join(f"{text:{w}}" for text, w in names if w)
        minima = r.estimator
        if r.estimator == conventions.ISOFLOP:
            minima = f"{'-' if r.refused else r.minima}/{r.budgets}"
        numbers = ["-" if r.refused else _number(i) for i in (r.a, r.b)]
        notes = "; ".join(filter(None, (r.refused, *r.notes)))
        print(f"{cells}  {numbers[0]:20}  {numbers[1]:20}  {minima:7} {notes}".rstrip())


def _number(i: Interval) -> str:
    known = f"[{i.low:.3f}, {i.high:.3f}]" if math.isfinite(i.low) else "no interval"
    return f"{i.value:.3f} {known}"


def _write(
    folder: Path,
    rows: list[Exponents],
    cases: list[Case],
    title: str,
    split: str,
    method: str,
    confidence: float,
) -> Path:
    """`folder/conventions.{json,csv,svg,png}`; returns the last."""
    from scaling.report import conventions as drawing

    content: dict[str, Any] = {
        "name": "conventions",
        "title": title,
        "equation": "N* = k C^a, D* = k C^b",
        "estimator": f"isoflop: {method} in log N per budget at equal compute of each convention, power "
        "laws through interior minima; L(N, D): a = beta / (alpha + beta) where cost is k N D",
        "rows": [_as_dict(r) for r in rows],
        "confidence": confidence,
        "table_sha256": {
            " | ".join(filter(None, (c.label, c.n_params, c.flops))): c.table.hash() for c in cases
        },
        "runs_used": sorted({name for c in cases for name in c.table.names}),
        "runs_left_out": sorted({line for c in cases for line in c.table.excluded}),
    }
    files.write_json(folder / "conventions.json", content)
    return drawing.picture(rows, title, split, confidence).write(folder / "conventions")


def _as_dict(row: Exponents) -> dict[str, Any]:
    fields = dataclasses.asdict(row)
    return {**fields, "a": row.a.as_dict(), "b": row.b.as_dict()}
