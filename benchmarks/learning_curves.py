"""Extrapolate published learning curves (Alabdulmohsin et al. 2022) and print RMSLE per group.

    python -m benchmarks.learning_curves FOLDER [--out=FILE]

FOLDER holds CSVs `benchmark.*.csv` with columns Domain, Task, Model, Seen Examples, Loss and
Training (1: to fit on, 0: to extrapolate to). It may hold `reference_rmsle.csv` with the authors'
estimators M1 to M4. Every curve is forecast by `laws.forecast` with its defaults from its training
rows alone. Exact duplicate rows count once.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks import common
from scaling.laws import api as laws
from scaling.laws.table import Table, make_table
from scaling.utils import machine

Name = tuple[str, str, str]


def curves(folder: Path) -> dict[Name, tuple[Table, Table]]:
    """Return per curve the rows to fit on and the rows to extrapolate to."""
    rows: dict[Name, dict[tuple, None]] = defaultdict(dict)
    for path in sorted(folder.glob("benchmark.*.csv")):
        with open(path, newline="") as handle:
            for r in csv.DictReader(handle):
                key = (r["Domain"], r["Task"], r["Model"])
                row = (float(r["Seen Examples"]), float(r["Loss"]), r["Training"] == "1")
                rows[key][row] = None

    def table(key: Name, training: bool) -> Table:
        chosen = sorted(row for row in rows[key] if row[2] == training)
        return make_table(x=[r[0] for r in chosen], loss=[r[1] for r in chosen])

    return {key: (table(key, True), table(key, False)) for key in rows}


def reference(folder: Path) -> dict[Name, dict[str, float]]:
    path = folder / "reference_rmsle.csv"
    if not path.is_file():
        return {}
    with open(path, newline="") as handle:
        return {
            (r["domain"], r["task"], r["model"]): {m: float(r[m]) for m in ("M1", "M2", "M3", "M4")}
            for r in csv.DictReader(handle)
        }


def rmsle(table: Table, ahead: Table, **options) -> tuple[float, laws.Combined]:
    """Return the root mean square of log predicted - log measured, and the forecast."""
    forecast = laws.forecast(table, ahead["x"], **options)
    return float(np.sqrt(np.mean(np.log(forecast.values / ahead.loss) ** 2))), forecast


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--bootstrap", type=int, default=0, help="refits, for the coverage of intervals"
    )
    parser.add_argument("--out", default="results/bench/learning_curves.json")
    args = parser.parse_args(argv)
    machine.enable_compilation_cache()
    known = reference(args.folder)
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    begun = time.perf_counter()
    for key, (table, ahead) in curves(args.folder).items():
        missed, forecast = rmsle(table, ahead, bootstrap=args.bootstrap)
        row = {"scaling": missed, **known.get(key, {})}
        if args.bootstrap:
            inside = [
                i.low <= x <= i.high for i, x in zip(forecast.intervals, ahead.loss, strict=True)
            ]
            row["coverage of 90% intervals"] = float(np.mean(inside))
        groups[key[0]].append(row)
        weights = " ".join(f"{n} {w:.2f}" for n, w in forecast.weights.items())
        print(f"{' '.join(key):40} {missed:.5f}  {weights}", flush=True)
    report = {
        group: {
            "curves": len(rows),
            **{name: float(np.mean([r[name] for r in rows])) for name in rows[0]},
        }
        for group, rows in groups.items()
    }
    common.show_and_write(args.out, {**report, "seconds": time.perf_counter() - begun})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
