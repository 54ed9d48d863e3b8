"""Measure by simulation whether verdicts can be trusted.

    python -m benchmarks.verdicts [--tables=200] [--refits=200] [--forms=chinchilla,...]
        [--designs=grid,...] [--noises=0.003,0.01] [--kinds=units,...] [--agree=200,500,1000]
        [--agree_tables=50] [--out=FILE]

Three questions, about tables of known laws:

    coverage    among fits called good: how often do 90% intervals hold the truth? Six designs per
                form and two levels of noise.
    corrupted   how many tables with a fault pass as good? `--kinds` names the faults.
    agreement   how often is the verdict the same at 200, 500 and 1,000 refits?

Tables are written as CSV and read by `scaling.laws.read_csv`, as a user's are. `--tables=0`,
`--kinds=none` and `--agree_tables=0` leave a question out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from benchmarks import common
from benchmarks.verdict_tables import DESIGNS, KINDS, Reader, clean, truth_of
from scaling.laws import api as laws
from scaling.laws import to_text
from scaling.laws.table import Table
from scaling.utils import machine
from scaling.utils.errors import UserError


def judged(table: Table, form: str, refits: int):
    """Return (verdict, intervals by parameter); "refused" if no law can be fitted."""
    try:
        if form == "isoflop":
            law = laws.fit_isoflop(table, bootstrap=refits)
            verdict = to_text.isoflop(law, table)["verdict"]
            return verdict, {"N*": law.n_opt.exponent, "D*": law.tokens_opt.exponent}
        fit = laws.fit(table, form, bootstrap=refits)
    except UserError:
        return "refused", {}
    return fit.verdict, fit.intervals


def coverage(read: Reader, args) -> dict:
    """Return, per form, the share of good fits and how often their intervals hold the truth."""
    report = {}
    for form in args.forms:
        rows, known = [], truth_of(form)
        for design in [d for d in DESIGNS[form] if d in args.designs or not args.designs]:
            for noise in args.noises:
                rng = np.random.default_rng([len(design), int(1e4 * noise)])
                for _ in range(args.tables):
                    table = read(clean(form, design, noise, rng))
                    verdict, found = judged(table, form, args.refits)
                    row = {"design": design, "noise": noise, "good": verdict == "good"}
                    inside = {
                        k: i.low <= known[k] <= i.high for k, i in found.items() if k in known
                    }
                    rows.append(row | inside)
        cells = sorted({(row["design"], row["noise"]) for row in rows})
        report[form] = {"all": _shares(rows, list(known))} | {
            f"{design} {noise:g}": _shares(
                [r for r in rows if (r["design"], r["noise"]) == (design, noise)], list(known)
            )
            for design, noise in cells
        }
    return report


def _shares(rows: Sequence[dict], names: Sequence[str]) -> dict:
    good = [row for row in rows if row["good"]]
    inside = {name: float(np.mean([row[name] for row in good])) for name in names if good}
    return {"tables": len(rows), "good": len(good), "inside": inside}


def corrupted(read: Reader, args) -> dict:
    """Return, per kind of fault, how many tables pass as good, and the kinds of warnings."""
    report = {}
    for kind in args.kinds:
        rng = np.random.default_rng(list(kind.encode()))
        verdicts = []
        for _ in range(args.tables):
            columns, form = KINDS[kind](rng)
            verdicts.append(judged(read(columns), form, args.refits)[0])
        report[kind] = {"tables": len(verdicts), "good": verdicts.count("good")}
    return report


def agreement(read: Reader, args) -> dict:
    """Return how often verdicts at several numbers of refits are the same."""
    report = {}
    for form in args.forms:
        rng = np.random.default_rng(5)
        names, same, good = list(DESIGNS[form]), 0, 0
        for i in range(args.agree_tables):
            table = read(clean(form, names[i % len(names)], rng.choice([0.003, 0.01, 0.02]), rng))
            verdicts = {judged(table, form, refits)[0] for refits in args.agree}
            same += len(verdicts) == 1
            good += verdicts == {"good"}
        report[form] = {"tables": args.agree_tables, "same": same, "good": good}
    return report


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the flags."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])

    def names(text: str) -> list[str]:
        return [part for part in text.split(",") if part and part != "none"]

    parser.add_argument("--tables", type=int, default=200, help="per design and noise, per kind")
    parser.add_argument("--refits", type=int, default=200)
    parser.add_argument("--forms", default=list(DESIGNS), type=names)
    parser.add_argument("--designs", default=[], type=names)
    parser.add_argument("--kinds", default=list(KINDS), type=names)
    parser.add_argument(
        "--noises", default=[0.003, 0.01], type=lambda text: [float(x) for x in text.split(",")]
    )
    parser.add_argument(
        "--agree", default=[200, 500, 1000], type=lambda text: [int(x) for x in text.split(",")]
    )
    parser.add_argument("--agree_tables", type=int, default=50)
    parser.add_argument("--out", default="results/bench/verdicts.json")
    return parser.parse_args(argv)


def measure(args) -> dict:
    """Return the answers to the three questions."""
    with tempfile.TemporaryDirectory() as folder:
        read = Reader(folder)
        report = {"coverage": coverage(read, args) if args.tables else {}}
        report |= {"corrupted": corrupted(read, args), "agreement": agreement(read, args)}
    return report


def lines(report: dict) -> list[str]:
    """Return the report as text."""
    made = []
    for form, cells in report["coverage"].items():
        for cell, found in cells.items():
            inside = " ".join(f"{k} {v:.2f}" for k, v in found["inside"].items())
            good = f"{found['good']} of {found['tables']} good"
            made.append(f"{form:12} {cell:16} {good:18} {inside}")
    made += [f"{k:12} {v['good']} of {v['tables']} pass" for k, v in report["corrupted"].items()]
    made += [
        f"{form:12} same verdict in {v['same']} of {v['tables']}, {v['good']} good"
        for form, v in report["agreement"].items()
    ]
    return made


def main(argv: list[str]) -> int:
    args = parse(argv)
    machine.enable_compilation_cache()
    report = measure(args)
    print(*lines(report), sep="\n")
    common.write_report(args.out, report, lines(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
