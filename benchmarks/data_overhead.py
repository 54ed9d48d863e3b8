"""Measure the cost of reading: steps on real batches against steps on one constant batch.

    python -m benchmarks.data_overhead [--sizes=XS,S,M] [--rounds=6]
        [--out=results/bench/data_overhead.json]

Both train the same program in turns of several dispatches. Real batches are read ahead and placed
on the mesh as in a run; the constant batch is there already. The results are medians over rounds of
milliseconds per step (wall time, and CPU in all threads) and of the ratio within a round. The bar
is 1.02 on S. Resuming is the time from a fresh iterator at a step to its first batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np

from benchmarks import common
from benchmarks.peers.ours import config_of
from benchmarks.sizes import SIZES
from scaling.data import pipeline, prepare
from scaling.programs import schedules, train_step
from scaling.utils import huge_pages, machine

TURN = 2.0  # seconds, at least
RESUMED = (10, 10**6)  # steps
SEEKS = 21  # repeats


def source_of(config) -> pipeline.Dispatches:
    return pipeline.Dispatches(
        prepare.prepare(config.data).train,
        seq_len=config.data.seq_len,
        batch_size=config.train.batch_size,
        steps=config.train.steps_per_dispatch,
        seed=0,
    )


def measure(config, rounds: int) -> dict[str, float]:
    """Return milliseconds per step by kind of batch, and real over constant."""
    programs, source = train_step.programs(config), source_of(config)
    K = config.train.steps_per_dispatch
    stream = pipeline.iterate(source, 0, config.data.prefetch)
    hyper = {k: np.float32(v) for k, v in schedules.hyperparameters(config).items()}
    state, constant = programs.init(0), programs.batch(source[0][None])

    def turn(kind: str, dispatches: int) -> tuple[float, float]:
        nonlocal state
        start, cpu = time.perf_counter(), time.process_time()
        flight = []  # as in a run: the next dispatch begins before the last one's metrics are read
        for _ in range(dispatches):
            batch = constant if kind == "constant" else programs.batch(next(stream)[None])
            state, metrics = programs.jitted(
                state, hyper, batch, np.int32(0), np.int32(0), np.int32(K)
            )
            flight.append(metrics["loss"])
            flight[-2:][0].block_until_ready()
        flight[-1].block_until_ready()
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return wall / (dispatches * K) * 1e3, cpu / (dispatches * K) * 1e3

    turn("real", 1)  # compiles
    dispatches = max(2, round(TURN / (turn("real", 1)[0] * K / 1e3)))
    timings: dict[str, list[tuple[float, float]]] = {"constant": [], "real": []}
    for i in range(rounds):
        for kind in sorted(timings, reverse=i % 2 == 0):  # neither kind is always first
            timings[kind].append(turn(kind, dispatches))
    pairs = list(zip(timings["real"], timings["constant"], strict=True))
    row = {}
    for which, name in enumerate(("", "cpu_")):
        for kind, turns in timings.items():
            row[f"{kind}_{name}ms"] = statistics.median(t[which] for t in turns)
        row[f"{name}ratio"] = statistics.median(real[which] / same[which] for real, same in pairs)
    return row


def resume(config) -> dict[int, float]:
    """Return the median milliseconds to the first batch after each step; the steps take turns."""
    source, K = source_of(config), config.train.steps_per_dispatch
    times: dict[int, list[float]] = {at: [] for at in RESUMED}
    for _ in range(SEEKS):
        for at in RESUMED:
            start = time.perf_counter()
            next(pipeline.iterate(source, at // K, config.data.prefetch))
            times[at].append((time.perf_counter() - start) * 1e3)
    return {at: statistics.median(values[1:]) for at, values in times.items()}  # one imports grain


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", default=",".join(SIZES), help="any of " + ", ".join(SIZES))
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", default="results/bench/data_overhead.json")
    args = parser.parse_args(argv)
    if unknown := [size for size in args.sizes.split(",") if size not in SIZES]:
        parser.error(f"--sizes={args.sizes}: {unknown[0]} is none of {', '.join(SIZES)}")
    machine.start_jax(2)
    lines = [f"{'ms per step':12} {'constant':>9} {'real':>9} {'ratio':>7} {'of CPU':>7}"]
    lines[0] += "".join(f"{f'resume at {at:,}':>20}" for at in RESUMED)
    print(lines[0])
    by_size = {}
    for size in args.sizes.split(","):
        config = config_of(size)
        row, seek = measure(config, args.rounds), resume(config)
        by_size[size] = {**row, "resume_ms": seek}
        lines.append(
            f"{size:12} {row['constant_ms']:9.3f} {row['real_ms']:9.3f} {row['ratio']:7.3f} "
            f"{row['cpu_ratio']:7.3f}" + "".join(f"{ms:17.2f} ms" for ms in seek.values())
        )
        print(lines[-1], flush=True)
    common.write_report(args.out, {"rounds": args.rounds, "sizes": by_size}, lines)
    return 0


if __name__ == "__main__":
    huge_pages.restart()
    sys.exit(main(sys.argv[1:]))
