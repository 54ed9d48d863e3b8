"""Time fits against scipy's L-BFGS-B: 4,500 starts and 4,000 bootstrap refits of Chinchilla's law.

    python -m benchmarks.fit_speed [--scipy_starts=100] [--peer] [--peer_levels=3] [--out=FILE]

The table is a synthetic sweep of 240 runs, so nothing is downloaded. The starts are the grid of
Hoffmann et al. 2022. scipy runs `--scipy_starts` of them, spread over the grid, and its time is
scaled up to 4,500. Our time includes compilation.

--peer also runs the fit of the PyPI package `chinchilla` on the same rows (`pip install
chinchilla`; it is no dependency). It runs with its `log_huber` at our threshold, the mean over rows
where ours is the sum. Its grid takes `--peer_levels` evenly spread levels of each parameter; 0
takes all. Its time is scaled up to 4,500 starts, too. Its best law is then valued by our objective.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time

import numpy as np
from scipy.optimize import minimize

from benchmarks import chinchilla_package, common
from scaling.laws.bootstrap import resample_counts
from scaling.laws.forms.registry import CHINCHILLA
from scaling.laws.newton import minimise
from scaling.utils.errors import EXIT_BAD_INPUT, UserError

DELTA = 1e-3
GRID = (range(0, 26, 5), range(0, 26, 5), (-1, -0.5, 0, 0.5, 1), *((0, 0.5, 1, 1.5, 2),) * 2)


def sweep(rows: int, seed: int = 0):
    """Return the logs of N and D, and the log loss, of a noisy law."""
    rng = np.random.default_rng(seed)
    log_n = rng.uniform(np.log(4e7), np.log(1.6e10), rows)
    log_d = log_n + rng.uniform(np.log(2), np.log(200), rows)
    loss = 1.82 + 478 * np.exp(-0.347 * log_n) + 2143 * np.exp(-0.367 * log_d)
    noise = 0.005 * rng.standard_t(4, rows)
    return np.stack([log_n, log_d], axis=1), np.log(loss) + noise


def objective(params, logs, target):
    """Return the Huber objective in numpy and its gradient."""
    a, b, e, alpha, beta = params
    terms = np.stack([a - alpha * logs[:, 0], b - beta * logs[:, 1], np.full(len(logs), e)])
    top = terms.max(axis=0)
    parts = np.exp(terms - top)
    total = parts.sum(axis=0)
    residual = target - top - np.log(total)
    size = np.abs(residual)
    value = np.where(size <= DELTA, residual**2 / 2, DELTA * (size - DELTA / 2)).sum()
    slope = -np.clip(residual, -DELTA, DELTA) * (parts / total)
    gradient = np.concatenate(
        [slope.sum(axis=1), [-(slope[0] * logs[:, 0]).sum(), -(slope[1] * logs[:, 1]).sum()]]
    )
    return value, gradient


def spread(levels, count: int) -> list[float]:
    """Return at most `count` of the levels, evenly spread from first to last; all for 0."""
    picked = np.unique(np.linspace(0, len(levels) - 1, count).round().astype(int))
    return [float(levels[i]) for i in picked] if count else [float(v) for v in levels]


def against_package(logs, target, levels: int, ours: float, seconds_per_start: float) -> dict:
    """Return the figures of the package `chinchilla`; `ours` is our lowest objective."""
    a, b, e, alpha, beta = (spread(axis, levels) for axis in GRID)
    peer = chinchilla_package.fit(
        {
            "n_params": np.exp(logs[:, 0]).tolist(),
            "tokens": np.exp(logs[:, 1]).tolist(),
            "loss": np.exp(target).tolist(),
            "grid": {"e": e, "a": a, "b": b, "alpha": alpha, "beta": beta},
            "delta": DELTA,
        }
    )
    law = peer["law"]
    best = [np.log(law["A"]), np.log(law["B"]), np.log(law["E"]), law["alpha"], law["beta"]]
    per_start = peer["seconds"] / peer["starts"]
    return {
        "package": f"chinchilla {peer['version']}, {peer['processes']} processes",
        "package_starts_run": peer["starts"],
        "package_s": peer["seconds"],
        "package_s_for_the_starts": per_start * math.prod(len(axis) for axis in GRID),
        "ratio_to_package_per_start": per_start / seconds_per_start,
        "package_best_above_ours": float(objective(best, logs, target)[0] / ours - 1),
        "package_law": law,
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scipy_starts", type=int, default=100)
    parser.add_argument("--peer", action="store_true", help="also the PyPI package chinchilla")
    parser.add_argument(
        "--peer_levels", type=int, default=3, help="levels of its grid per parameter; 0: all"
    )
    parser.add_argument("--out", default="results/bench/fit_speed.json")
    args = parser.parse_args(argv)
    if args.peer:
        try:
            chinchilla_package.require()
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return EXIT_BAD_INPUT
    logs, target = sweep(240)
    grid = np.array(list(itertools.product(*GRID)), float)
    centre = np.median(CHINCHILLA.starts(logs, target), axis=0)

    begun = time.perf_counter()
    solved = minimise(
        CHINCHILLA.log_predict, logs, target, np.ones((1, 240)), grid, delta=DELTA, centre_P=centre
    )
    best = solved.params_RP[np.nanargmin(solved.objective_R)]
    starts_s = time.perf_counter() - begun
    counts = resample_counts(240, 4000)
    minimise(
        CHINCHILLA.log_predict,
        logs,
        target,
        counts,
        np.tile(best, (4000, 1)),
        delta=DELTA,
        near=True,
    )
    ours_s = time.perf_counter() - begun

    picked = grid[np.linspace(0, len(grid) - 1, args.scipy_starts).astype(int)]
    begun = time.perf_counter()
    peers = [
        minimize(objective, start, (logs, target), method="L-BFGS-B", jac=True).fun
        for start in picked
    ]
    scipy_s = (time.perf_counter() - begun) / len(picked) * len(grid)
    lowest = min(float(np.nanmin(solved.objective_R)), *peers)

    per_rows = {}
    for rows in (10, 100, 1000, 10_000):
        row_logs, row_target = sweep(rows)
        starts = CHINCHILLA.starts(row_logs, row_target)
        run = (CHINCHILLA.log_predict, row_logs, row_target, np.ones((1, rows)), starts)
        minimise(*run, delta=DELTA)  # compiles
        begun = time.perf_counter()
        minimise(*run, delta=DELTA)
        per_rows[rows] = time.perf_counter() - begun
    report = {
        "starts": len(grid),
        "refits": 4000,
        "ours_s_with_compilation": ours_s,
        "ours_starts_s": starts_s,
        "scipy_s_for_the_starts": scipy_s,
        "scipy_starts_run": len(picked),
        "ratio_on_the_starts": scipy_s / starts_s,
        "reached_ours": float(np.mean(solved.objective_R <= lowest * (1 + 1e-6))),
        "reached_scipy": float(np.mean(np.array(peers) <= lowest * (1 + 1e-6))),
        "lowest_ours_over_scipy": float(np.nanmin(solved.objective_R) / min(peers)),
        "seconds_by_rows": per_rows,
    }
    if args.peer:
        ours = float(np.nanmin(solved.objective_R))
        report |= against_package(logs, target, args.peer_levels, ours, starts_s / len(grid))
    common.show_and_write(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
