"""Compare eight runs that differ in learning rate as one sweep and as eight processes.

    python -m benchmarks.sweep [--repeats=3] [--steps=200] [--size=XS] [--ways=all]
        [--filled] [--torch_python=PYTHON] [--torch_mode=MODE] [--out=results/bench/sweep_XS.json]

All ways train the same eight runs in fresh processes, in turn. Eight processes run one after
another, each with both cores. Each compiles as its own program does: `scaling train` from its
filled compilation cache, torch from its own, plain JAX anew. Ours evaluate and save at the end; the
peers do not. torch is nanoGPT's block (benchmarks/peers) in the fastest mode for these steps: each
mode is tried, or `--torch_mode` names one. The results are medians of wall time, ratios within a
round, and the use of the machine: CPU seconds of all processes over wall time times cores.
"""

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
from typing import Any

from benchmarks.common import write_report
from benchmarks.sizes import SIZES
from benchmarks.training_step import ROOT, corpus, missing
from benchmarks.training_step import WAYS as PEERS

RATES = (1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 1.2e-2)
MODES = [mode for module, mode in PEERS.values() if module == "torch_gpt"]
SWEEPS = {  # one command for all eight
    "as scheduled": (),
    "one by one, batch shared": ("--config.launch.pack=1",),
    "packed": ("--config.launch.pack=8",),
    "2 workers": ("--config.launch.workers=2",),
}
OURS = next(iter(SWEEPS))
WAYS = (*SWEEPS, "8 x scaling train", "8 x torch", "8 x plain JAX")
QUICK = (OURS, "8 x scaling train", "8 x torch")

Command = list[str]


def flags(size: str, steps: int) -> Command:
    values = {
        **SIZES[size].overrides(),
        "train.tokens": steps * SIZES[size].tokens_per_step,
        "eval.tokens": 65_536,
        "laws.holdout_factor": 0.0,
    }
    return ["--config=configs/python_text.py", *(f"--config.{k}={v}" for k, v in values.items())]


def peer(module: str, python: str, args, tokens: Path, lr: float, *more: str) -> Command:
    """Return the command of a peer that trains one run and ends."""
    values = [f"--size={args.size}", f"--steps={args.steps}", f"--tokens={tokens}", f"--lr={lr}"]
    return [python, "-m", f"benchmarks.peers.{module}", *values, *more]


def commands(way: str, args, tokens: Path, workdir: Path) -> list[Command]:
    """Return the commands of a way, to be run one after another."""
    scaling, common = [sys.executable, "-m", "scaling"], flags(args.size, args.steps)
    folder = f"--workdir={workdir}"
    if way in SWEEPS:
        grid = ["--config.sweep.kind=grid", "--config.sweep.grid_keys=('optim.lr',)"]
        grid.append(f"--config.sweep.grid_values=({RATES},)")
        return [[*scaling, "sweep", *common, *grid, folder, *SWEEPS[way]]]
    if way == "8 x scaling train":
        alone = [*scaling, "train", *common, "--config.sweep.kind=none", folder]
        return [[*alone, f"--config.optim.lr={lr}"] for lr in RATES]
    if way == "8 x plain JAX":
        return [peer("plain_jax", sys.executable, args, tokens, lr) for lr in RATES]
    mode = f"--mode={args.torch_mode}"
    return [peer("torch_gpt", args.torch_python, args, tokens, lr, mode) for lr in RATES]


def timed(commands: list[Command]) -> tuple[float, float]:
    """Run the commands and return wall seconds and the busy share of all cores."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu / wall / (os.cpu_count() or 1)


def tried(args, tokens: Path) -> dict[str, float]:
    """Return the wall seconds of one process in each of torch's modes, run for the second time."""
    seconds = {}
    for mode in MODES:
        one = [peer("torch_gpt", args.torch_python, args, tokens, RATES[0], f"--mode={mode}")]
        timed(one)  # fills torch's cache of compiled code
        seconds[mode] = timed(one)[0]
        print(f"one process of torch {mode:15} {seconds[mode]:6.1f} s", flush=True)
    return seconds


def measure(args, ways: list[str], tokens: Path) -> dict[str, Any]:
    """Return by way the wall seconds, the busy share of cores, and the time over our sweep's."""
    outcomes: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    # the first round of ours fills the compilation cache
    for repeat in range(1 if args.filled else 0, args.repeats + 1):
        for way in ways:
            if not repeat and way.endswith(("torch", "JAX")):
                continue
            folder = Path(tempfile.mkdtemp(prefix="scaling-sweep-"))
            try:
                result = timed(commands(way, args, tokens, folder))
            finally:
                shutil.rmtree(folder)
            if repeat:
                outcomes[way].append(result)
                print(f"round {repeat}: {way:26} {result[0]:6.1f} s", flush=True)
    ours = [wall for wall, _ in outcomes[OURS]]
    return {
        way: {
            "seconds": statistics.median(wall for wall, _ in results),
            "lowest": min(wall for wall, _ in results),
            "highest": max(wall for wall, _ in results),
            "over_ours": statistics.median(
                wall / our for (wall, _), our in zip(results, ours, strict=True)
            ),
            "busy": statistics.median(busy for _, busy in results),
        }
        for way, results in outcomes.items()
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--size", choices=SIZES, default="XS")
    parser.add_argument("--ways", default="all", help="all, quick, or some of: " + "; ".join(WAYS))
    parser.add_argument(
        "--filled", action="store_true", help="ours have run before: no round to fill caches"
    )
    parser.add_argument("--torch_python", default=sys.executable, help="a python that has torch")
    parser.add_argument("--torch_mode", choices=MODES, default="", help="the fastest, if not named")
    parser.add_argument("--out", default="", help="default results/bench/sweep_<size>.json")
    args = parser.parse_args(argv)
    names = {"all": WAYS, "quick": QUICK}.get(args.ways) or args.ways.split(";")
    if unknown := [way for way in names if way not in WAYS]:
        parser.error(f"--ways={args.ways}: {unknown[0]!r} is none of {'; '.join(WAYS)}")
    ways = [way for way in WAYS if way in names or way == OURS]
    why = missing(args.torch_python) if "8 x torch" in ways else ""
    ways = [way for way in ways if not (why and "torch" in way)]
    left = [way for way in WAYS if way not in ways]
    lines = [f"left out: {', '.join(left)}"] * bool(left) + [why] * bool(why)
    with corpus() as tokens:
        modes = {}
        if "8 x torch" in ways and not args.torch_mode:
            modes = tried(args, tokens)
            args.torch_mode = min(modes, key=lambda mode: modes[mode])
        rows = measure(args, ways, tokens)
    if "8 x torch" in rows:
        lines.append(f"torch: {args.torch_mode}")
    lines += [
        f"{args.size}, 8 runs of {args.steps} steps, {args.repeats} rounds",
        f"{'':26} {'seconds':>8} {'over ours':>10} {'cores busy':>11}",
    ]
    for way, row in rows.items():
        lines.append(f"{way:26} {row['seconds']:8.1f} {row['over_ours']:9.2f}x {row['busy']:11.0%}")
    print(*lines, sep="\n")
    report = {"size": args.size, "steps": args.steps, "repeats": args.repeats, "ways": rows}
    report |= {"torch_mode": args.torch_mode, "torch_modes_tried": modes}
    write_report(args.out or f"results/bench/sweep_{args.size}.json", report, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
