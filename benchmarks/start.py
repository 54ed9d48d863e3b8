"""Time `scaling --help`, and the start of a process up to its first optimizer step.

    python -m benchmarks.start [--repeats=5] [--size=S] [--out=results/bench/start.json]

The first step has ended when its row is in metrics.jsonl. Each repeat is a fresh process of
`scaling train`, with the compilation cache filled ("warm") or empty ("cold"), in turn. The data are
tokenised before. Imports are measured by `-X importtime`: seconds of each package's own modules.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import write_report
from benchmarks.sizes import SIZES

PACKAGES = 12  # printed, the slowest to import
TIMEOUT = 300.0  # seconds


def command(size: str, workdir: Path) -> list[str]:
    """Return the arguments of `scaling train` for one optimizer step."""
    values = {
        **SIZES[size].overrides(),
        "sweep.kind": "none",
        "train.tokens": SIZES[size].tokens_per_step,
    }
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    flags += ["--config=configs/python_text.py", f"--workdir={workdir}"]
    return ["-m", "scaling", "train", *flags]


def until_first_step(size: str, cache: Path) -> dict[str, float]:
    """Return the seconds from process start to the first row of metrics and to the end."""
    with tempfile.TemporaryDirectory(prefix="scaling-start-") as workdir:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *command(size, Path(workdir))],
            stdout=subprocess.DEVNULL, env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        )  # fmt: skip
        while not any(p.stat().st_size for p in Path(workdir).glob("runs/*/metrics.jsonl")):
            if process.poll() is not None or time.perf_counter() - start > TIMEOUT:
                process.kill()
                raise RuntimeError(f"no step was trained; exit code {process.wait()}")
            time.sleep(0.002)
        first = time.perf_counter() - start
        if process.wait(TIMEOUT):
            raise RuntimeError(f"the run failed with exit code {process.returncode}")
        return {"first_step": first, "end": time.perf_counter() - start}


def until_help() -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "scaling", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


def imports(size: str, cache: Path) -> dict[str, float]:
    """Return each package's seconds to import its own modules, the slowest first."""
    with tempfile.TemporaryDirectory(prefix="scaling-start-") as workdir:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", *command(size, Path(workdir))],
            check=True, capture_output=True, text=True,
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        )  # fmt: skip
    seconds: collections.Counter[str] = collections.Counter()
    for line in done.stderr.splitlines():
        own, _, module = line.removeprefix("import time:").rpartition("|")
        if line.startswith("import time:") and own.split("|")[0].strip().isdecimal():
            seconds[module.strip().split(".")[0]] += int(own.split("|")[0]) / 1e6
    return dict(seconds.most_common())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--out", default="results/bench/start.json")
    args = parser.parse_args(argv)
    timings: dict[str, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="scaling-start-") as folder:
        warm, cold = Path(folder) / "warm", Path(folder) / "cold"
        until_first_step(args.size, warm)  # fills it, and tokenises the data
        for _ in range(args.repeats):
            timings["help"].append(until_help())
            for name, cache in (("warm", warm), ("cold", cold)):
                for event, seconds in until_first_step(args.size, cache).items():
                    timings[f"{name} {event.replace('_', ' ')}"].append(seconds)
            shutil.rmtree(cold)
        packages = imports(args.size, warm)
    lines = [f"{'seconds':18} {'median':>7} {'lowest':>7}"]
    for name, values in timings.items():
        lines.append(f"{name:18} {statistics.median(values):7.2f} {min(values):7.2f}")
    lines += ["", f"{'imports':18} {sum(packages.values()):7.2f}"]
    lines += [f"  {name:16} {own:7.2f}" for name, own in list(packages.items())[:PACKAGES]]
    print(*lines, sep="\n")
    write_report(args.out, {"size": args.size, "seconds": timings, "imports": packages}, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
