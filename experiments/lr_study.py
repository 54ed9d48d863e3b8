"""Find the learning-rate rule of configs/python_text.py: the best rate of each size.

    python -m experiments.lr_study --workdir=results/lr_study --out=experiments/lr_study

trains every size at every learning rate and budget. A parabola through log loss against log lr
gives the optimum of each size. A power law through the optima gives the rule. Optima at the edge of
the grid are named and left out. The command writes `lr_study.csv` (every run), `lr_study.json`
(optima and rule) and the figure. It takes about 4 minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments import common
from scaling import results
from scaling.laws import api as laws
from scaling.laws.lr_batch_optima import tuned
from scaling.sweep.plan import ladder, planner
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

WIDTHS = (8, 16, 24, 32, 48, 64)
BUDGETS = (3e10, 3e11)
NEAR = 0.0  # the parabola goes through the best rate and its two neighbours
CONFIDENCE = 0.9
RATES = (4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 1.28e-1)


def planned(config, widths, budgets, rates) -> list[planner.PlannedRun]:
    """Plan every size at every budget and learning rate."""
    from scaling.config import load as config_lib

    return [
        planner.at_budget(
            config_lib.with_values(
                config, {"sweep.lr_coefficient": lr, "sweep.lr_n_exponent": 0.0}
            ),
            ladder.rung_of_width(config, width),
            budget,
        )
        for width in widths
        for budget in budgets
        for lr in rates
    ]


def analyse(rows: list[results.RunResult]) -> dict:
    """Return the optimum of every budget and size, and the law through those inside the grid."""
    table = laws.make_table(
        n_params=[r.n_params for r in rows],
        flops=[r.budget for r in rows],
        lr=[r.lr for r in rows],
        loss=[r.loss for r in rows],
    )
    optima: list[dict[str, Any]] = []
    for budget, n_params in sorted({(r.budget, r.n_params) for r in rows}):
        group = table.rows((table.flops == budget) & (table.n_params == n_params))
        (fitted,) = tuned(group, "lr", near=NEAR, bootstrap=0, confidence=CONFIDENCE)
        best = int(group.loss.argmin())
        lr, loss = fitted.optimum.value, fitted.loss
        if fitted.problem:
            lr, loss = float(group["lr"][best]), float(group.loss[best])
        optima.append(
            {
                "budget": budget,
                "n_params": n_params,
                "lr": lr,
                "loss": loss,
                "problem": str(fitted.problem or ""),
            }
        )
    inside = [o["n_params"] for o in optima if not o["problem"]]
    try:
        law = laws.fit_optimum_of(
            table, "lr", of=("n_params",), near=NEAR, bootstrap=2000, confidence=CONFIDENCE
        )
    except laws.CannotFit as error:
        print(f"no rule: {error}")
        return {"optima": optima, "rule": None}
    exponent = law.law["p"]
    rule = {
        "equation": "lr = lr_coefficient * n_params^-lr_n_exponent",
        "lr_coefficient": law.law["k"].value,
        "lr_n_exponent": -exponent.value,
        "lr_n_exponent_interval": [-exponent.high, -exponent.low],
        "confidence": CONFIDENCE,
        "n_params": [min(inside), max(inside)],
    }
    return {"optima": optima, "rule": rule}


def draw(rows, analysis, budgets):
    """Draw loss against learning rate: a panel per budget, a line per size."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    from scaling.report.style import RED, shades

    _, panels = plt.subplots(1, len(budgets), figsize=(5 * len(budgets), 4), squeeze=False)
    for axes, budget in zip(panels[0], budgets, strict=True):
        sizes = sorted({r.n_params for r in rows if r.budget == budget})
        for n_params, colour in zip(sizes, shades(len(sizes)), strict=False):
            group = sorted(
                (r.lr, r.loss) for r in rows if (r.budget, r.n_params) == (budget, n_params)
            )
            axes.plot(*zip(*group, strict=True), "o-", color=colour, label=f"N = {n_params:,}")
        for o in analysis["optima"]:
            if o["budget"] == budget and not o["problem"]:
                axes.plot(o["lr"], o["loss"], "*", color=RED, ms=11, zorder=5)
        axes.set(
            xscale="log",
            xlabel="peak learning rate",
            ylabel="held-out loss, nats/token",
            title=f"{budget:.2g} FLOPs",
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=7)
    return panels[0][0]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.add_flags(parser, config="configs/python_text.py", workdir="results/lr_study")
    parser.add_argument("--out", default="experiments/lr_study")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES)
    args, overrides = parser.parse_known_args(argv)
    try:
        config = common.load(args, overrides)
        runs = planned(config, args.widths, args.budgets, args.rates)
        rows = common.train_all(runs, config, Path(args.workdir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    wanted = {run.run_id for run in runs}
    rows = [r for r in rows if r.run_id in wanted and r.status == "done"]
    analysis = analyse(rows)
    out = Path(args.out)
    common.write_rows(
        out / "lr_study.csv",
        rows,
        (
            "budget",
            "width",
            "depth",
            "n_params",
            "tokens",
            "lr",
            "loss",
            "loss_se",
            "batch_tokens",
            "seed",
            "commit",
        ),
    )
    files.write_json(out / "lr_study.json", analysis)
    common.write_figure(out / "lr_study", lambda: draw(rows, analysis, args.budgets))
    for o in analysis["optima"]:
        print(f"{o['budget']:.1e} FLOPs  N {o['n_params']:7,}  lr* {o['lr']:.4f}  {o['problem']}")
    print(analysis["rule"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
