"""Check the coordinates of every kind of block and every optimizer, over widths and depths.

    python -m experiments.coordinates --out=docs/recipes

trains ten steps of five seeds at widths 32 to 512 and depths 2 to 32 on the text of
configs/python_text.py, as `scaling check` does, and writes `coordinates.csv`: a row per case and
layer with the slope of its size and a 90% interval. It takes about a quarter of an hour on two
cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments import common
from scaling.config import load as config_lib
from scaling.study import coordinate_check
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

WIDTHS, DEPTHS, STEPS, SEEDS = (32, 64, 128, 256, 512), (2, 4, 8, 16, 32), 10, 5
BASE = {
    "sweep.kind": "none",
    "model.width": 64,
    "model.mlp_width": 256,
    "model.head_dim": 16,
    "model.depth": 2,
    "model.base_width": 64,
    "model.base_depth": 2,
    "model.tied_head": False,
    "data.seq_len": 32,
    "train.batch_size": 16,
    "optim.lr": 2.0**-8,
}
# peak rates of like effect at the base
RATES = {"lion": 1e-3, "sgd": 0.1, "adafactor": 0.02, "muon": 2.0**-8, "adamh": 0.01, "muonh": 0.01}
KINDS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "tied": {"model.tied_head": True},
    "experts": {"model.experts": 4},
    **{kind: {"model.kind": kind} for kind in ("mlp", "cnn", "lstm", "lru")},
}
CASES = [
    *((kind, "adamw", name, "width") for kind in KINDS for name in ("sp", "mup")),
    *(("transformer", optimizer, "mup", "width") for optimizer in RATES),
    *(("transformer", "adamw", name, "depth") for name in ("sp", "mup", "completep")),
]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common.add_flags(parser, config="configs/python_text.py", workdir="")
    parser.add_argument("--out", default="results/coordinates")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args, overrides = parser.parse_known_args(argv)
    columns: dict[str, list] = {}
    try:
        config = common.load(args, overrides)
        for kind, optimizer, name, side in CASES:
            values = {
                **BASE,
                **KINDS[kind],
                "model.parametrization": name,
                "optim.name": optimizer,
                "optim.lr": RATES.get(optimizer, BASE["optim.lr"]),
            }
            widths, depths = (args.widths, ()) if side == "width" else ((), args.depths)
            found = coordinate_check.check(
                config_lib.with_values(config, values), widths, depths, STEPS, args.seeds
            )
            print(kind, optimizer, name, found.verdict(side), flush=True)
            case = {"kind": kind, "optimizer": optimizer, "parametrization": name, "side": side}
            for slope in (s for s in found.slopes if s.quantity == "size"):
                row = {"layer": slope.layer, "slope": slope.value, "low": slope.low}
                for key, value in {**case, **row, "high": slope.high}.items():
                    columns.setdefault(key, []).append(value)
            files.write_bytes(Path(args.out) / "coordinates.csv", files.csv_bytes(columns))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
