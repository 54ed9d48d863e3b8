"""Measure how the best learning rate moves with the length of a run, on several data sets.

    python -m experiments.horizon --workdir=results/horizon --out=docs/recipes

trains one size of each data set at six lengths and seven rates, with two seeds, at a fixed batch.
Two estimators give the optimum of each length: a parabola through the best rate and its two
neighbours, and one through all rates within 5% of the lowest loss. The exponent d log lr* / d log D
is fitted to all lengths and to the long ones alone. The command writes `horizon.csv` (every run),
`horizon.json` and the figure. A data set takes about six minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments import common
from scaling import results
from scaling.config import load as config_lib
from scaling.laws import api as laws
from scaling.laws.lr_batch_optima import tuned
from scaling.sweep.plan import planner
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

SIZE = {"model.width": 24, "model.depth": 2, "model.mlp_width": 96}
TEXT = {"data.hash": None, "train.batch_size": 8}
FIELD = {"train.batch_size": 16, "launch.workers": "auto"}
# name -> config, its changes, log2 of the central rate
DATA: dict[str, tuple[str, dict[str, Any], float]] = {
    "python": ("python_text", {}, -6.0),
    "dictionary": ("python_text", {**TEXT, "data.name": "debian/dict-gcide"}, -6.0),
    "kernel docs": ("python_text", {**TEXT, "data.name": "debian/linux-doc"}, -6.0),
    "vision": ("vision_quickstart", FIELD, -7.0),
    "speech": ("speech_quickstart", FIELD, -6.0),
}
STEPS = (128, 256, 512, 1024, 2048, 4096)
SHORT = 512  # steps; shorter runs are left out of the second exponent
OCTAVES = (-3, -2, -1, 0, 1, 2, 3)
SEEDS = (0, 1)
ESTIMATORS = {"three points": 0.0, "within 5%": 0.05}  # `near` of `tuned`
CONFIDENCE = 0.9
COLUMNS = ("n_params", "tokens", "lr", "seed", "loss", "loss_se", "commit")


def planned(name: str, args) -> tuple[Any, list[planner.PlannedRun]]:
    """Return the config of a data set and its runs."""
    source, changes, centre = DATA[name]
    config = config_lib.load(source, [])
    shared = {
        **changes,
        **SIZE,
        "sweep.recipe": None,
        "model.parametrization": "sp",
        "optim.schedule": "cosine",
    }
    config = config_lib.with_values(config, shared)
    per_step = config.train.batch_size * config_lib.targets_per_row(config)
    return config, [
        planner.plan_run(
            config_lib.with_values(
                config,
                {
                    "sweep.kind": "none",
                    "train.tokens": steps * per_step,
                    "optim.lr": float(2 ** (centre + k)),
                    "seed": s,
                },
            )
        )
        for steps in args.steps
        for k in OCTAVES
        for s in args.seeds
    ]


def analyse(name: str, rows: list[results.RunResult], lengths) -> list[dict[str, Any]]:
    """Return optima and exponents by each estimator; `lengths` are steps."""
    found, per_step = [], min(r.tokens for r in rows) / min(lengths)
    for estimator, near in ESTIMATORS.items():
        entry: dict[str, Any] = {"data": name, "estimator": estimator}
        for part, least in (("all", 0), ("long", SHORT)):
            own = [r for r in rows if r.tokens >= least * per_step]
            table = laws.make_table(
                n_params=[r.n_params for r in own],
                tokens=[r.tokens for r in own],
                lr=[r.lr for r in own],
                loss=[r.loss for r in own],
            )
            if part == "all":
                entry["optima"] = [
                    {
                        "tokens": round(group.inputs["tokens"]),
                        "lr": group.optimum.as_dict(),
                        "loss": group.loss,
                        "problem": str(group.problem or ""),
                    }
                    for group in tuned(table, "lr", near=near, bootstrap=500, confidence=CONFIDENCE)
                ]
            try:
                law = laws.fit_optimum_of(
                    table, "lr", of=("tokens",), near=near, bootstrap=1000, confidence=CONFIDENCE
                )
                entry[part] = law.law["q"].as_dict()
            except laws.CannotFit as error:
                entry[part], entry["problem"] = None, str(error)
        found.append(entry)
    return found


def draw(by_data: dict[str, list[results.RunResult]], found: list[dict]):
    """Draw loss against learning rate: a panel per data set, a line per length."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    from scaling.report.style import RED, shades

    _, panels = plt.subplots(1, len(by_data), figsize=(3.6 * len(by_data), 3.6), squeeze=False)
    for axes, (name, group) in zip(panels[0], by_data.items(), strict=True):
        lengths = sorted({r.tokens for r in group})
        for length, colour in zip(lengths, shades(len(lengths)), strict=False):
            own = [r for r in group if r.tokens == length]
            grid = sorted({r.lr for r in own})
            means = [np.mean([r.loss for r in own if r.lr == lr]) for lr in grid]
            axes.plot(grid, means, "o-", color=colour, ms=3, label=f"D = {length:.2g}")
        entry = next(e for e in found if e["data"] == name)
        for optimum in entry["optima"]:
            if not optimum["problem"]:
                axes.plot(optimum["lr"]["value"], optimum["loss"], "*", color=RED, ms=9, zorder=5)
        slope = entry["all"]
        axes.set(
            xscale="log", xlabel="peak learning rate", ylabel="held-out loss, nats",
            title=f"{name}: D^{slope['value']:+.2f}" if slope else name,
        )  # fmt: skip
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=6)
    return panels[0][0]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="results/horizon")
    parser.add_argument("--out", default="results/horizon/out")
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    args = parser.parse_args(argv)
    by_data: dict[str, list[results.RunResult]] = {}
    try:
        for number, name in enumerate(args.data):
            config, runs = planned(name, args)
            if not number:
                common.machine.start_jax(config.parallel.cpu_devices)
            workdir = Path(args.workdir) / name.replace(" ", "_")
            wanted = {run.run_id for run in runs}
            rows = common.train_all(runs, config, workdir)
            by_data[name] = [r for r in rows if r.run_id in wanted and r.status == "done"]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    found = [entry for name, rows in by_data.items() for entry in analyse(name, rows, args.steps)]
    out = Path(args.out)
    columns: dict[str, list] = {"data": []}
    for name, rows in by_data.items():
        columns["data"] += [name] * len(rows)
        for key in COLUMNS:
            columns.setdefault(key, []).extend(getattr(r, key) for r in rows)
    files.write_bytes(out / "horizon.csv", files.csv_bytes(columns))
    files.write_json(out / "horizon.json", {"short": SHORT, "results": found})
    common.write_figure(out / "horizon", lambda: draw(by_data, found))
    for entry in found:
        print(entry["data"], entry["estimator"], entry["all"], entry["long"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
