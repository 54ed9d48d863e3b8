"""Compare a tuned recipe with dense grids at two sizes that it never saw.

    python -m experiments.tune_check --time=300 --workdir=results/tune_check --out=docs/recipes

tunes a recipe for a block and a text that no default was chosen on (an LRU on Debian's English). It
then trains a grid of rates, batches and time scales at a size between those tuned and at one about
four times larger than the largest, and the recipe's own run at both. `tune_check.json` has the
losses, the rates and the FLOPs of both ways.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from pathlib import Path
from typing import Any

from experiments import common
from scaling import results
from scaling.config import load as config_lib
from scaling.recipes import fitted
from scaling.recipes.recipe import Recipe, Settings
from scaling.study import tune
from scaling.study.tune_design import LENGTHS, run_of
from scaling.sweep.plan import ladder, run_recipe
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

STUDY = {
    "data.name": "debian/english",
    "data.hash": None,
    "data.seq_len": 64,
    "model.kind": "lru",
    "sweep.lr_coefficient": None,
    "sweep.min_width": 16,
    "sweep.rungs": 8,
    "sweep.width_ratio": 1.25,
    "sweep.kind": "hyper",
}
RATES, BATCHES, TAUS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0), (0.25, 1.0, 4.0), (0.25, 1.0, 4.0)


def proposed(recipe: Recipe, config, width: int, tokens: float) -> tuple[Settings, int]:
    """Return the recipe's settings for its own batch, and that batch in rows."""
    sized = config_lib.with_values(config, ladder.rung_of_width(config, width).values())
    base = run_recipe.base_of(sized)
    settings = recipe.settings(run_recipe.point_of(sized, tokens), base)
    rows = sized.train.batch_size
    if settings.batch_tokens is not None:
        rows = max(2, run_recipe.rows(sized, settings.batch_tokens))
    batched = config_lib.with_values(sized, {"train.batch_size": rows})
    return recipe.settings(run_recipe.point_of(batched, tokens), base), rows


def compared(config, recipe: Recipe, width: int, tokens: float, workdir: Path) -> dict[str, Any]:
    """Train the recipe's run and the grid around it at one size, and compare them."""
    settings, rows = proposed(recipe, config, width, tokens)
    batch = rows * config_lib.targets_per_row(config)
    assert settings.lr is not None, "a fitted recipe always has a rate"
    lr, rung = run_recipe.rounded(settings.lr), ladder.rung_of_width(config, width)
    tau = 0.8
    if settings.weight_decay is not None:
        tau = batch / (lr * settings.weight_decay * tokens)
    own = run_of(config, rung, tokens=tokens, lr=lr, rows=rows, tau=tau)
    grid = [
        run_of(
            config, rung, tokens=tokens, lr=lr * a * b**0.5, rows=max(2, round(rows * b)),
            tau=tau * t,
        )
        for a, b, t in itertools.product(RATES, BATCHES, TAUS)
    ]  # fmt: skip
    runs = list({run.run_id: run for run in [own, *grid]}.values())
    by_id = {r.run_id: r for r in common.train_all(runs, config, workdir)}
    done = [r for run in grid if (r := by_id[run.run_id]).status == "done"]
    best, ours = min(done, key=_loss), by_id[own.run_id]
    # the best rate at the recipe's batch and time scale
    same = [r for r in done if r.batch_tokens == batch]
    return {
        "width": width,
        "n_params": own.n_params,
        "tokens": own.tokens,
        "recipe": {"lr": lr, "batch_tokens": batch, "tau": tau, "loss": ours.loss},
        "best": {"lr": best.lr, "batch_tokens": best.batch_tokens, "loss": best.loss},
        "lr_over_best_at_this_batch": lr / min(same, key=_loss).lr,
        "excess": _loss(ours) / _loss(best) - 1,
        "grid_runs": len(grid),
        "grid_flops": sum(run.flops for run in grid),
    }


def _loss(row: results.RunResult) -> float:
    return math.inf if row.loss is None else row.loss


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.add_flags(parser, config="configs/python_text.py", workdir="results/tune_check")
    parser.add_argument("--out", default="results/tune_check/out")
    parser.add_argument("--time", type=float, default=300.0, help="seconds for the tuning")
    args, overrides = parser.parse_known_args(argv)
    try:
        config = config_lib.with_values(common.load(args, overrides), STUDY)
        workdir = Path(args.workdir)
        tuning = tune.tune(config, workdir / "tune", args.time, print)
        content = tune.content(config, tuning)
        recipe = fitted.parsed(content, "fitted")
        widths = sorted({r.width for r in tuning.rows})
        tokens = content["range"]["tokens"][0] * LENGTHS[1]
        unseen = (round((widths[1] + widths[2]) / 16) * 8, tokens), (2 * widths[2], tokens)
        sizes = [compared(config, recipe, *size, workdir / "grid") for size in unseen]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    report = {"tune_flops": content["flops"], "recipe": content, "sizes": sizes}
    files.write_json(Path(args.out) / "tune_check.json", report)
    for size in sizes:
        print(size, f"tune / grid FLOPs {content['flops'] / size['grid_flops']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
