"""Train rounds of runs that the fitted law proposes, to narrow one forecast.

    python -m experiments.design --out=docs/sweeps/design

trains a coarse ladder, fits its law, trains the runs that narrow the forecast most, and repeats.
Each round is a sweep of its own below the workdir. The tokens of a size follow from its own cost
per token, so that a round costs what was proposed: for models this small the cost is far from 6 N.
`curves/design_rounds` shows the forecast's interval after each round.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import common
from scaling import results
from scaling.analysis import registry, run_table
from scaling.analysis.saved_curve import Analysis, SavedCurve
from scaling.config import load as config_lib
from scaling.laws import api as laws
from scaling.laws.frontier import cost_per_token, frontier
from scaling.report import rounds
from scaling.results import RunResult
from scaling.sweep.plan import planner
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError

RATIOS = (5.0, 1000.0)  # range of tokens per parameter in proposals
SEEDS = 1000  # added to the seed each round, so that a run proposed twice is a repeat
COST_RATIO = 20.0  # cost of the dearest run of a round over that of the cheapest


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    common.add_flags(parser, config="configs/sweeps.py:design", workdir="results/design")
    parser.add_argument("--out", default="", help="folder to copy curves, table and summary to")
    parser.add_argument("--rounds", type=int, default=2, help="rounds after the ladder")
    parser.add_argument("--runs", type=int, default=8, help="runs of a round, at most")
    parser.add_argument("--round_flops", type=float, default=1.6e12, help="FLOPs of a round")
    parser.add_argument("--max_flops", type=float, default=4e11, help="FLOPs of a run, at most")
    parser.add_argument("--at", type=float, default=3e12, help="FLOPs to forecast the best loss at")
    args, overrides = parser.parse_known_args(argv)
    try:
        return _run(
            args,
            common.load(args, overrides),
            shlex.join(["python", "-m", "experiments.design", *argv]),
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT


def _run(args, config: ConfigDict, command: str) -> int:
    workdir = Path(args.workdir)
    rows: list[RunResult] = []
    history: list[dict[str, Any]] = []
    for number in range(args.rounds + 1):
        folder = workdir / f"round{number}"
        round_config = config
        if number:
            path = folder / "design.csv"
            if not path.is_file():
                _propose(rows, config, args, path)
            round_config = config_lib.with_values(
                config,
                {
                    "sweep.kind": "design",
                    "sweep.design_file": str(path),
                    "sweep.seeds": (SEEDS * number,),
                },
            )
        new = common.train_all(planner.plan(round_config), round_config, folder)
        rows += [r for r in new if r.run_id not in {known.run_id for known in rows}]
        history.append(_forecast(rows, config, args.at, number))
        print(_line(history[-1], args.at))
    analysis = registry.analyse(rows, workdir, config)
    registry.write(_with_rounds(analysis, history, args.at, config), workdir, config)
    lines = [*analysis.lines, *(_line(h, args.at) for h in history)]
    files.write_bytes(workdir / "summary.txt", ("\n".join(lines) + "\n").encode())
    results.write_table(workdir, rows)
    if args.out:
        common.copy_curves(workdir, Path(args.out), command)
    return EXIT_INCOMPLETE if any(r.status != "done" for r in rows) else 0


def _fit(rows: list[RunResult], config: ConfigDict) -> laws.Fit:
    return laws.fit_chinchilla(
        run_table.sweep_table(rows, config, config.laws.min_steps),
        delta=config.laws.huber_delta,
        bootstrap=config.laws.bootstrap,
        confidence=config.laws.confidence,
    )


def _propose(rows: list[RunResult], config: ConfigDict, args, path: Path) -> None:
    """Write the next round as a CSV of n_params, tokens and FLOPs, like `scaling design`."""
    table = run_table.sweep_table(rows, config, config.laws.min_steps)
    proposal = laws.propose(
        [laws.Prior.of(_fit(rows, config))],
        [laws.Target(args.at)],
        done=table,
        total_flops=args.round_flops,
        max_runs=args.runs,
        max_flops=args.max_flops,
        min_flops=args.max_flops / COST_RATIO,
        tokens_per_param=RATIOS,
        flops_per_n_d=float(np.median(table.flops / (table.n_params * table.tokens))),
    )
    sizes = np.clip(proposal.n_params, table.n_params.min() / 1.5, table.n_params.max() * 4)
    cost = cost_per_token(table)(sizes)
    # the fit leaves out runs shorter than min_steps
    shortest = max(config.laws.min_steps, 1) * config_lib.tokens_per_step(config)
    tokens = np.maximum(np.floor(proposal.flops / cost), shortest)
    columns = {"n_params": np.floor(sizes), "tokens": tokens, "flops": tokens * cost}
    files.write_bytes(path, files.csv_bytes({name: v.tolist() for name, v in columns.items()}))


def _forecast(rows: list[RunResult], config: ConfigDict, at: float, number: int) -> dict[str, Any]:
    """Return the law's loss at the target after this round, and the cost of all rounds."""
    table = run_table.sweep_table(rows, config, config.laws.min_steps)
    (best,) = frontier(_fit(rows, config), table, [at])
    return {
        "round": number,
        "runs": len(rows),
        "flops": float(table.flops.sum()),
        "loss": best.loss,
        "n_params": best.n_params,
    }


def _line(h: dict[str, Any], at: float) -> str:
    loss, size = h["loss"], h["n_params"]
    return (
        f"round {h['round']}: {h['runs']} runs, {h['flops']:.3g} FLOPs; at {at:.3g} FLOPs "
        f"loss {loss.brief()}, N* {size.brief()}"
    )


def _with_rounds(analysis: Analysis, history, at: float, config: ConfigDict) -> Analysis:
    law = {
        **analysis.curves["ladder"].law,
        "target_flops": at,
        "rounds": [
            {**h, "loss": h["loss"].as_dict(), "n_params": h["n_params"].as_dict()} for h in history
        ],
    }
    curve = SavedCurve(law, rounds.picture(history, at, config.laws.confidence))
    return dataclasses.replace(analysis, curves={**analysis.curves, "design_rounds": curve})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
