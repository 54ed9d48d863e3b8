"""Measure compute-equivalent gains between families of models, optimizers or features.

    python -m experiments.algorithms --question=text --out=docs/algorithms/text

trains the families of a question (configs/algorithms.py) and keeps the best learning rate of each
size and length. It fits L(N, D) of each family. The gain is how many times more compute the
baseline needs to match another family. The command writes `<family>.csv` (the best run of each size
and length), `gain_<family>/gain.{csv,json}`, `gain.{svg,png}` and itself.

Gains are curves, since they depend on compute (Gundlach et al. 2025). N is what FLOPs count, C /
6D: inputs, attention and heads are much of the cost of small models. So C = 6ND is exact for every
family and size.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import common
from scaling import cli, results
from scaling.config import load as config_lib
from scaling.configs import algorithms
from scaling.sweep.plan import planner
from scaling.utils import files, machine
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError

COLUMNS = (
    "n_params",
    "tokens",
    "flops_exact",
    "lr",
    "loss",
    "loss_se",
    "seed",
    "run_id",
    "config_hash",
    "data_fingerprint",
    "commit",
)


def best_of_rates(
    rows: Sequence[results.RunResult],
) -> tuple[list[results.RunResult], list[str]]:
    """Return the run of lowest loss of each size, length and seed, and the end of its rates.

    The end is "lowest" or "highest" if the best rate is one of that group, else "". Runs that did
    not end in order are left out.
    """
    groups: dict[tuple[int, int, int], list[results.RunResult]] = {}
    for row in rows:
        if row.status == "done" and row.loss is not None:
            groups.setdefault((row.n_params, row.tokens, row.seed), []).append(row)
    best, ends = [], []
    for _, group in sorted(groups.items()):
        best.append(min(group, key=lambda row: row.loss or 0.0))
        rates = sorted(row.lr for row in group)
        end = {rates[0]: "lowest", rates[-1]: "highest"} if len(rates) > 1 else {}
        ends.append(end.get(best[-1].lr, ""))
    return best, ends


def write_family(path: Path, best: Sequence[results.RunResult], ends: Sequence[str]) -> None:
    """Write the table of a family, with the size that its FLOPs count."""
    columns: dict[str, Any] = {name: [getattr(row, name) for row in best] for name in COLUMNS}
    columns["n_params_of_flops"] = [row.flops_exact / (6 * row.tokens) for row in best]
    columns["lr_at_edge"] = list(ends)
    files.write_bytes(path, files.csv_bytes(columns))


def draw(families: Mapping[str, list[results.RunResult]], gains: Mapping[str, dict[str, Any]]):
    """Draw the runs of all families over compute, and the gains with their intervals."""
    import matplotlib.pyplot as plt

    from scaling.report.style import GREY, KINDS

    _, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    shown: list[float] = []
    for (name, rows), colour in zip(families.items(), KINDS, strict=False):
        left.plot(
            [r.flops_exact for r in rows],
            [r.loss for r in rows],
            "o",
            color=colour,
            ms=4,
            label=name,
        )
        if name in gains:
            g = gains[name]
            right.plot(g["flops"], g["gain"], "-", color=colour, label=name)
            # an end at infinity lies outside the picture
            ends = [np.clip(g[end], 1e-12, 1e12) for end in ("low", "high")]
            right.fill_between(g["flops"], *ends, color=colour, alpha=0.2, lw=0)
            shown += [
                v
                for column in ("gain", "low", "high")
                for v in g[column]
                if np.isfinite(v) and v > 0
            ]
    if shown:
        right.set_ylim(0.7 * min(shown), 1.5 * max(shown))
    right.axhline(1.0, color=GREY, lw=1)
    baseline = next(iter(families))
    left.set(xscale="log", xlabel="training FLOPs", ylabel="held-out loss, nats per target")
    right.set(
        xscale="log",
        yscale="log",
        xlabel="training FLOPs of the family",
        ylabel=f"FLOPs that {baseline} needs for its loss, times",
    )
    left.legend()
    right.legend()
    return left


def gain_of(baseline: Path, new: Path, out: Path, flags: Sequence[str]) -> dict[str, list[float]]:
    """Run `scaling gain` on two tables and return its curve.

    Returns {} if the curve could not be fitted; the command prints the reason.
    """
    columns = [
        "--n_params=n_params_of_flops",
        "--tokens=tokens",
        "--flops=flops_exact",
        "--loss=loss",
    ]
    code = cli.main(["gain", str(baseline), str(new), *columns, f"--out={out}", *flags])
    if code not in (0, EXIT_INCOMPLETE):
        return {}
    with open(out / "gain.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in rows[0]}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--question", choices=algorithms.QUESTIONS, default="text")
    parser.add_argument("--workdir", default="", help="without it results/algorithms/<question>")
    parser.add_argument(
        "--out", default="", help="folder for tables and picture; without it --workdir"
    )
    parser.add_argument("--bootstrap", default="500", help="resamples behind the intervals")
    args, overrides = parser.parse_known_args(argv)
    workdir = Path(args.workdir or f"results/algorithms/{args.question}")
    out = Path(args.out or workdir)
    families: dict[str, list[results.RunResult]] = {}
    complete = True
    try:
        for family in algorithms.QUESTIONS[args.question][1]:
            config = config_lib.load(f"configs/algorithms.py:{args.question}.{family}", overrides)
            machine.start_jax(config.parallel.cpu_devices)
            rows = common.train_all(planner.plan(config), config, workdir / family)
            complete &= all(row.status == "done" for row in rows)
            families[family], ends = best_of_rates(rows)
            if any(ends):
                at_edge = sum(map(bool, ends))
                print(f"{family}: the best rate is at an edge in {at_edge} of {len(ends)} groups")
            write_family(out / f"{family}.csv", families[family], ends)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    baseline, *others = families
    gains = {}
    for name in others:
        flags = [f"--bootstrap={args.bootstrap}"]
        tables = out / f"{baseline}.csv", out / f"{name}.csv"
        gain = gain_of(*tables, out / f"gain_{name}", flags=flags)
        complete &= bool(gain)
        if gain:
            gains[name] = gain
    common.write_figure(out / "gain", lambda: draw(families, gains))
    command = shlex.join(["python", "-m", "experiments.algorithms", *argv])
    files.write_bytes(out / "command.txt", f"{command}\n".encode())
    print(out)
    return 0 if complete else EXIT_INCOMPLETE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
