"""Compare cooldowns that merge checkpoints with cooldowns that decay the learning rate.

    python -m experiments.merge --out=docs/sweeps/merge

trains runs of one family. Some decay (WSD), others average checkpoints of the same trunk. Each
merged run is compared with the decayed run of its length and seed: gap = loss merged - loss
decayed. The command writes `merge_gap.csv` (a row per length and way to merge), `.svg`, `.png`, the
table of runs and itself.
"""

from __future__ import annotations

import argparse
import collections
import math
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import common
from scaling import results
from scaling.config.flat_dict import view
from scaling.sweep.plan import planner
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError


def way(values: Mapping[str, Any]) -> str:
    """Name the end of a run: "decay" or "merge 8 uniform"."""
    o = view(values).optim
    if o.cooldown == "decay":
        return "decay"
    return f"merge {o.merge_checkpoints} {o.merge_weights}"


def gaps(
    rows: Sequence[results.RunResult], planned: Mapping[str, planner.PlannedRun]
) -> list[dict[str, Any]]:
    """Return a row per size, length and way to merge: mean gap over seeds, its error, the cost."""
    # (n_params, tokens, way) -> seed -> (loss, FLOPs spent)
    outcomes: dict[tuple, dict[int, tuple[float, float]]] = collections.defaultdict(dict)
    for row in rows:
        if row.loss is not None and row.run_id in planned:
            key = (row.n_params, row.tokens, way(planned[row.run_id].values))
            outcomes[key][row.seed] = (row.loss, row.flops_spent)
    table = []
    for (n_params, tokens, name), merged in sorted(outcomes.items()):
        decayed = outcomes.get((n_params, tokens, "decay"), {})
        seeds = sorted(merged.keys() & decayed.keys())
        if name == "decay" or not seeds:
            continue
        each = [merged[s][0] - decayed[s][0] for s in seeds]
        error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        table.append(
            {
                "n_params": n_params,
                "tokens": tokens,
                "way": name,
                "loss_decayed": statistics.fmean(decayed[s][0] for s in seeds),
                "loss_merged": statistics.fmean(merged[s][0] for s in seeds),
                "gap": statistics.fmean(each),
                "gap_se": error,
                "seeds": len(seeds),
                "flops_spent_decayed": sum(decayed[s][1] for s in seeds),
                "flops_spent_merged": sum(merged[s][1] for s in seeds),
            }
        )
    return table


def draw(table: Sequence[Mapping[str, Any]]):
    """Draw gap against length, a line per size and way to merge; bars are errors over seeds."""
    import matplotlib.pyplot as plt

    from scaling.report.style import GREY, KINDS

    _, axes = plt.subplots()
    lines = sorted({(r["n_params"], r["way"]) for r in table})
    for (n_params, name), colour in zip(lines, KINDS * len(lines), strict=False):
        line = [r for r in table if (r["n_params"], r["way"]) == (n_params, name)]
        tokens, gap, error = ([r[k] for r in line] for k in ("tokens", "gap", "gap_se"))
        label = f"{name}, N = {n_params:,}"
        axes.errorbar(tokens, gap, error, fmt="o-", color=colour, ms=4, capsize=2, label=label)
    axes.axhline(0.0, color=GREY, lw=1)
    axes.set(
        xscale="log", xlabel="length of the run, tokens", ylabel="loss merged - loss decayed, nats"
    )
    axes.legend()
    return axes


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    common.add_flags(parser, config="configs/sweeps.py:merge", workdir="results/merge")
    parser.add_argument("--out", default="", help="folder for the table and the picture")
    args, overrides = parser.parse_known_args(argv)
    try:
        config = common.load(args, overrides)
        planned = {run.run_id: run for run in planner.plan(config)}
        ways = {way(run.values) for run in planned.values()}
        if "decay" not in ways or len(ways) < 2:
            raise UserError(
                "config.optim.cooldown: sweep it over 'decay' and 'merge', "
                "as configs/sweeps.py:merge does"
            )
        rows = common.train_all(list(planned.values()), config, Path(args.workdir))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    table = gaps(rows, planned)
    for r in table:
        print(
            f"{r['tokens']:>11,} tokens  {r['way']:18} decayed {r['loss_decayed']:.4f}  merged "
            f"{r['loss_merged']:.4f}  gap {r['gap']:+.4f} +- {r['gap_se']:.4f} ({r['seeds']} seeds)"
        )
    if table:
        out = Path(args.out or args.workdir)
        columns = {name: [r[name] for r in table] for name in table[0]}
        files.write_bytes(out / "merge_gap.csv", files.csv_bytes(columns))
        common.write_figure(out / "merge_gap", lambda: draw(table))
        command = shlex.join(["python", "-m", "experiments.merge", *argv])
        files.write_bytes(out / "command.txt", f"{command}\n".encode())
        if args.out:
            files.write_bytes(out / "runs.csv", (Path(args.workdir) / "runs.csv").read_bytes())
        print(out)
    return 0 if all(row.status == "done" for row in rows) else EXIT_INCOMPLETE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
