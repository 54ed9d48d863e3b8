"""Measure how often 90% intervals hold the truth, on synthetic IsoFLOP sweeps of a known law.

    python -m benchmarks.coverage [--sweeps=500] [--noise=0.003] [--sizes=7] [--budgets=5]
        [--out=FILE]

fits both estimators by default settings: L(N, D), and the IsoFLOP minima with their power laws
("isoflop"). Resamples draw single runs, and intervals are the bias-corrected percentiles of
`scaling.laws.fit`. "law" is the interval of the law at the optimum of 10 times the largest budget,
"run" that of a new run there.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks import common
from scaling.laws import api as laws
from scaling.laws.table import make_table
from scaling.utils import machine

A, B, E, ALPHA, BETA = 478.0, 2143.0, 1.82, 0.347, 0.367


def sweep(noise: float, sizes: int, budgets: int, rng):
    """Return one noisy IsoFLOP sweep around the optimum."""
    a = BETA / (ALPHA + BETA)
    scale = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    flops = np.repeat(np.geomspace(1e17, 1e19, budgets), sizes)
    n = scale * (flops / 6) ** a * np.exp(np.tile(np.linspace(-1.2, 1.2, sizes), budgets))
    d = flops / (6 * n)
    loss = (E + A * n**-ALPHA + B * d**-BETA) * np.exp(noise * rng.standard_normal(len(n)))
    return make_table(n_params=n, tokens=d, flops=flops, loss=loss, budget=flops)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=500)
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--sizes", type=int, default=7)
    parser.add_argument("--budgets", type=int, default=5)
    parser.add_argument("--out", default="results/bench/coverage.json")
    args = parser.parse_args(argv)
    machine.enable_compilation_cache()
    rng = np.random.default_rng(0)
    truth = {"E": E, "alpha": ALPHA, "beta": BETA, "a": BETA / (ALPHA + BETA)}
    names = (*truth, "N*", "law", "run", "isoflop a", "isoflop b")
    inside = dict.fromkeys(names, 0)
    for _ in range(args.sweeps):
        table = sweep(args.noise, args.sizes, args.budgets, rng)
        law, minima = laws.fit(table, bootstrap=300), laws.fit_isoflop(table, bootstrap=300)
        scale = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
        n = scale * (1e20 / 6) ** truth["a"]
        d = 1e20 / (6 * n)
        expected = E + A * n**-ALPHA + B * d**-BETA
        measured = expected * np.exp(args.noise * rng.standard_normal())
        intervals = {name: law.intervals[name] for name in truth}
        intervals |= {"N*": law.optimum(1e20)[0], "law": law.mean_interval(n, d)}
        intervals["run"] = law.prediction_interval(n, d)
        intervals |= {"isoflop a": minima.n_opt.exponent, "isoflop b": minima.tokens_opt.exponent}
        known = truth | {"N*": n, "law": expected, "run": measured}
        known |= {"isoflop a": truth["a"], "isoflop b": 1 - truth["a"]}
        for name in names:
            inside[name] += intervals[name].low <= known[name] <= intervals[name].high
    report = {name: count / args.sweeps for name, count in inside.items()}
    report |= {"sweeps": args.sweeps, "rows": args.sizes * args.budgets, "noise": args.noise}
    common.show_and_write(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
