"""Repeat a compute sweep with other seeds: each repeat seals its own forecast before its test.

    python -m experiments.repeats --workdir=results/quickstart_repeats --out=docs/quickstart

runs `scaling curves` once per repeat. Repeat k adds k times the number of the config's seeds to
each seed, and trains its held-out run with the first of them. `repeats.json` holds the forecast,
the measurement and the exponents of all repeats. The first repeat is the study itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from scaling import results
from scaling.config import load as config_lib
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

# the key of the exponent of N* in FLOPs, in the parameters of each approach in n_opt.json
APPROACHES = {"envelope": "exponent", "isoflop": "exponent", "chinchilla": "a"}


def flags_of(repeat: int, seeds: tuple[int, ...]) -> list[str]:
    """Return the overrides of a repeat."""
    own = tuple(seed + repeat * len(seeds) for seed in seeds)
    return [f"--config.seed={own[0]}", f"--config.sweep.seeds={own}"] if repeat else []


def outcome(workdir: Path) -> dict[str, Any]:
    """Return forecast, measurement and exponents of a finished study."""
    forecast = json.loads((workdir / "forecast.json").read_text())
    rows, _ = results.read_table(workdir / "runs.csv")
    (held_out,) = (r for r in rows if r.run_id == forecast["run_id"])
    curves = json.loads((workdir / "curves" / "n_opt.json").read_text())["parameters"]
    predicted = forecast["predicted_loss"]
    assert held_out.loss is not None
    return {
        "seeds": sorted({r.seed for r in rows if r.role == "sweep"}),
        "predicted_loss": predicted,
        "measured": {"loss": held_out.loss, "loss_se": held_out.loss_se},
        "excess": held_out.loss / predicted["value"] - 1,
        "n_opt_exponent": {n: curves[n][key] for n, key in APPROACHES.items() if n in curves},
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--workdir", default="results/quickstart_repeats")
    parser.add_argument("--out", default="results/quickstart_repeats/out")
    parser.add_argument("--repeats", type=int, default=4)
    args, overrides = parser.parse_known_args(argv)
    try:
        config = config_lib.load(args.config, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    found = []
    for repeat in range(args.repeats):
        workdir = Path(args.workdir) / str(repeat)
        flags = [f"--config={args.config}", f"--workdir={workdir}", *overrides]
        flags += flags_of(repeat, tuple(config.sweep.seeds))
        done = subprocess.run([sys.executable, "-m", "scaling", "curves", *flags])
        if done.returncode:
            return done.returncode
        found.append(outcome(workdir))
        print(json.dumps(found[-1]))
        files.write_json(Path(args.out) / "repeats.json", {"repeats": found})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
