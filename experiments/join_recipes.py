"""Fit one recipe to the runs of several `scaling tune` workdirs of one study.

    python -m experiments.join_recipes W1 W2 --config=configs/quickstart.py --out=recipe.json

One design has three batches. Two designs whose batches lie between each other show how the best
batch moves with the length of a run. Here its exponent is kept even if its interval is wide, since
a batch of one size costs short runs more than long ones. Other exponents of batch and tau are 0.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scaling import results
from scaling.config import load as config_lib
from scaling.laws import response_surface
from scaling.study import tune
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

HELD = (("batch", "n_exponent"), ("tau", "n_exponent"), ("tau", "d_exponent"))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdirs", nargs="+", type=Path)
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--out", type=Path, default=Path("recipe.json"))
    args, overrides = parser.parse_known_args(argv)
    try:
        config = config_lib.load(args.config, overrides)
        rows = [
            row
            for workdir in args.workdirs
            for row in results.read_table(workdir / "runs.csv")[0]
            if row.status == "done"
        ]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    table = tune.table_of(rows)
    surface = response_surface.fit_surface(table, constant=HELD)
    fitted = tune.Tuning(rows, surface, list(HELD), tune.grouped(table), [])
    files.write_json(args.out, tune.content(config, fitted))
    for name, rule in surface.rules.items():
        for key, value in rule.items():
            print(f"{name} {key} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
