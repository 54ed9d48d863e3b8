"""What a sweep saves: eight runs that differ in learning rate, as one sweep and as eight processes.

    python -m benchmarks.sweep [--repeats=3] [--steps=200] [--size=XS] [--out=sweep.json]

All ways train the same eight runs with a warm compilation cache, each in fresh processes, in turn;
medians of wall time, and how busy they kept the machine (CPU seconds of all processes over wall time
times cores)."""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import write_report
from benchmarks.sizes import SIZES

RATES = (1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 1.2e-2)


def flags(size: str, steps: int) -> list[str]:
    values = {
        "sweep.kind": "grid",
        **SIZES[size].overrides(),
        "train.tokens": steps * SIZES[size].tokens_per_step,
        "eval.tokens": 65_536,
        "laws.holdout_factor": 0.0,
    }
    return [
        "--config=configs/quickstart.py",
        *(f"--config.{k}={v}" for k, v in values.items()),
    ]


def sweep(size: str, steps: int, workdir: Path, *more: str) -> list[list[str]]:
    """One command: the grid."""
    return [
        [
            "sweep",
            *flags(size, steps),
            "--config.sweep.grid_keys=('optim.lr',)",
            f"--config.sweep.grid_values=({RATES},)",
            f"--workdir={workdir}",
            *more,
        ]
    ]


def separate(size: str, steps: int, workdir: Path) -> list[list[str]]:
    """Eight commands, one after another."""
    common = [f.replace("kind=grid", "kind=none") for f in flags(size, steps)]
    return [["train", *common, f"--config.optim.lr={lr}", f"--workdir={workdir}"] for lr in RATES]


def timed(commands: list[list[str]]) -> tuple[float, float]:
    """(wall seconds, share of all cores that was busy)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run(
            [sys.executable, "-m", "scaling", *command], check=True, stdout=subprocess.DEVNULL
        )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu / wall / (os.cpu_count() or 1)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", choices=SIZES, default="XS")
    parser.add_argument("--out", default="", help="JSON of the figures")
    args = parser.parse_args(argv)
    ways = {
        "8 x scaling train": lambda w: separate(args.size, args.steps, w),
        "one by one, batch shared": lambda w: sweep(
            args.size, args.steps, w, "--config.launch.pack=1"
        ),
        "packed": lambda w: sweep(args.size, args.steps, w, "--config.launch.pack=8"),
        "2 workers": lambda w: sweep(args.size, args.steps, w, "--config.launch.workers=2"),
        "as scheduled": lambda w: sweep(args.size, args.steps, w),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(args.repeats + 1):  # the first round fills the caches
        for name, commands in ways.items():
            folder = Path(tempfile.mkdtemp(prefix="scaling-sweep-"))
            try:
                result = timed(commands(folder))
            finally:
                shutil.rmtree(folder)
            if repeat:
                found[name].append(result)
    base = statistics.median(wall for wall, _ in found["8 x scaling train"])
    rows = {
        name: {
            "seconds": statistics.median(w for w, _ in results),
            "ratio": statistics.median(w for w, _ in results) / base,
            "busy": statistics.median(b for _, b in results),
        }
        for name, results in found.items()
    }
    for name, row in rows.items():
        print(
            f"{name:26} {row['seconds']:6.1f} s  {row['ratio']:5.2f}  cores busy {row['busy']:.0%}"
        )
    if args.out:
        write_report(args.out, {"size": args.size, "steps": args.steps, "ways": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
