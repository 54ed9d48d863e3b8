"""Measure how the best learning rate moves with width and depth under each parametrisation.

    python -m experiments.transfer --workdir=results/transfer --out=docs/recipes

trains every width (at the base depth) and depth (at the base width) at a grid of learning rates
with several seeds. A parabola through the best rate and its neighbours gives each optimum; a power
law through the optima gives the slope d log lr* / d log side. The base's optimum is then used at
every size: `excess` is how much higher the loss is there than at the size's own optimum. The
command writes `transfer.csv` (every run), `transfer.json` and the figure. The defaults take half an
hour on two cores.
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
from scaling.laws.lr_batch_optima import Tuned, tuned
from scaling.sweep.plan import planner
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

BASE_WIDTH, BASE_DEPTH, HEAD_DIM = 64, 2, 16
WIDTHS, DEPTHS = (64, 128, 256, 512), ()
NAMES, SEEDS, STEPS = ("sp", "mup"), (0, 1, 2, 3), 150
OCTAVES = (-2, -1, 0, 1, 2)  # rates around the centre, in factors of 2
# log2 of the centre of the rates at the base, and how it moves per doubling of the side, so that a
# narrow grid holds the optimum; an optimum at an edge is named and left out
CENTRE, SHIFT = -6.5, {"sp": {"width": -1.0}}
NEAR, CONFIDENCE = 0.0, 0.9
COLUMNS = ("width", "depth", "n_params", "lr", "seed", "tokens", "loss", "loss_se", "commit")


def base(args) -> dict[str, Any]:
    """Return the config values that all runs share."""
    return {
        "sweep.kind": "none",
        "model.head_dim": HEAD_DIM,
        "model.base_width": BASE_WIDTH,
        "model.base_depth": BASE_DEPTH,
        "model.tied_head": False,
        "data.seq_len": 64,
        "train.batch_size": 8,
        "train.tokens": args.steps * 8 * 64,
        "train.steps_per_dispatch": 25,
        "train.log_every": 25,
        "optim.schedule": "cosine",
        "optim.warmup_fraction": 0.1,
        "eval.tokens": 65_536,
    }


def rates(name: str, side: str, ratio: float, args) -> list[float]:
    """Return the learning rates of one size, `ratio` times the base's width or depth."""
    shift = SHIFT.get(name, {}).get(side, 0.0) * np.log2(ratio)
    return [float(2 ** (round(2 * (args.centre + shift)) / 2 + k)) for k in OCTAVES]


def planned(config, args) -> list[tuple[str, str, planner.PlannedRun]]:
    """Return (parametrisation, side, run) of every run."""
    runs = []
    for name in args.names:
        shapes = [("width", w, BASE_DEPTH, w / BASE_WIDTH) for w in args.widths]
        shapes += [("depth", BASE_WIDTH, d, d / BASE_DEPTH) for d in args.depths]
        for side, width, depth, ratio in shapes:
            for lr in rates(name, side, ratio, args):
                for seed in args.seeds:
                    values = {
                        **base(args),
                        "model.parametrization": name,
                        "model.width": width,
                        "model.mlp_width": 4 * width,
                        "model.depth": depth,
                        "optim.lr": lr,
                        "seed": seed,
                    }
                    run = planner.plan_run(config_lib.with_values(config, values))
                    runs.append((name, side, run))
    return runs


def analyse(name: str, side: str, rows: list[results.RunResult]) -> dict[str, Any]:
    """Return the optimum of every size, the slope, and the excess loss at the base's optimum."""
    table = laws.make_table(
        n_params=[getattr(r, side) for r in rows],  # groups and the law go by the side
        tokens=[r.tokens for r in rows],
        lr=[r.lr for r in rows],
        loss=[r.loss for r in rows],
    )
    groups = tuned(table, "lr", near=NEAR, bootstrap=500, confidence=CONFIDENCE)
    found: dict[str, Any] = {"parametrization": name, "side": side, "optima": []}
    at_base = groups[0].optimum.value
    for group in groups:
        size = group.inputs["n_params"]
        own = table.rows(np.isclose(table.n_params, size))
        found["optima"].append(
            {
                side: round(size),
                "lr": group.optimum.as_dict(),
                "loss": group.loss,
                "excess": _excess(own, group, at_base),
                "problem": str(group.problem or ""),
            }
        )
    try:
        law = laws.fit_optimum_of(
            table, "lr", of=("n_params",), near=NEAR, bootstrap=1000, confidence=CONFIDENCE
        )
        found["slope"] = law.law["p"].as_dict()
    except laws.CannotFit as error:
        found["slope"], found["problem"] = None, str(error)
    return found


def _excess(own, group: Tuned, lr: float) -> float | None:
    """Return the relative excess of the mean loss at `lr`; None outside of the grid.

    A parabola in log lr through the three nearest rates interpolates the log losses.
    """
    grid = np.unique(own["lr"])
    if group.problem or not grid[0] <= lr <= grid[-1]:
        return None
    x = np.log(grid / lr)
    means = np.log([own.loss[own["lr"] == rate].mean() for rate in grid])
    near = np.argsort(np.abs(x))[:3]
    return float(np.exp(np.polyfit(x[near], means[near], 2)[-1]) / group.loss - 1)


def draw(rows: dict, found: list[dict]):
    """Draw loss against learning rate: a panel per parametrisation and side, a line per size."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    from scaling.report.style import RED, shades

    _, panels = plt.subplots(1, len(found), figsize=(4.2 * len(found), 4), squeeze=False)
    for axes, entry in zip(panels[0], found, strict=True):
        side = entry["side"]
        group = rows[entry["parametrization"], side]
        sizes = sorted({getattr(r, side) for r in group})
        for size, colour in zip(sizes, shades(len(sizes)), strict=False):
            own = [r for r in group if getattr(r, side) == size]
            grid = sorted({r.lr for r in own})
            means = [np.mean([r.loss for r in own if r.lr == lr]) for lr in grid]
            axes.plot(grid, means, "o-", color=colour, ms=3, label=f"{side} {size}")
        for optimum in entry["optima"]:
            if not optimum["problem"]:
                axes.plot(optimum["lr"]["value"], optimum["loss"], "*", color=RED, ms=10, zorder=5)
        slope = entry["slope"]
        text = f"slope {slope['value']:+.2f} [{slope['low']:+.2f}, {slope['high']:+.2f}]"
        axes.set(
            xscale="log", xlabel="peak learning rate", ylabel="held-out loss, nats/token",
            title=f"{entry['parametrization']}: {text if slope else 'no slope'}",
        )  # fmt: skip
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=7)
    return panels[0][0]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.add_flags(parser, config="configs/python_text.py", workdir="results/transfer")
    parser.add_argument("--out", default="results/transfer/out")
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--widths", type=int, nargs="*", default=WIDTHS)
    parser.add_argument("--depths", type=int, nargs="*", default=DEPTHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--centre", type=float, default=CENTRE, help="log2 of the base's rates")
    args, overrides = parser.parse_known_args(argv)
    try:
        config = common.load(args, overrides)
        runs = planned(config, args)
        distinct = {run.run_id: run for *_, run in runs}
        rows = common.train_all(list(distinct.values()), config, Path(args.workdir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    done = {r.run_id: r for r in rows if r.status == "done"}
    by_side: dict[tuple[str, str], list[results.RunResult]] = {}
    for name, side, run in runs:
        if run.run_id in done:
            by_side.setdefault((name, side), []).append(done[run.run_id])
    found = [analyse(*key, group) for key, group in by_side.items()]
    out = Path(args.out)
    columns: dict[str, list] = {"parametrization": [], "side": []}
    for (name, side), group in by_side.items():
        columns["parametrization"] += [name] * len(group)
        columns["side"] += [side] * len(group)
        for key in COLUMNS:
            columns.setdefault(key, []).extend(getattr(r, key) for r in group)
    files.write_bytes(out / "transfer.csv", files.csv_bytes(columns))
    files.write_json(out / "transfer.json", {"steps": args.steps, "results": found})
    common.write_figure(out / "transfer", lambda: draw(by_side, found))
    for entry in found:
        print(entry["parametrization"], entry["side"], entry["slope"], entry.get("problem", ""))
        for o in entry["optima"]:
            print("  ", o)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
