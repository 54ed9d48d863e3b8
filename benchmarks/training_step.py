"""Compare tokens per second of a training step with other programs: same block, same batch, fp32.

    python -m benchmarks.training_step [--sizes=XS,S,M] [--ways=all] [--rounds=5] [--seconds=4]
        [--torch_python=PYTHON] [--out=results/bench/training_step.json]

Ours is the run of `scaling train`: NNX model, optax, metrics, data pipeline. The others are in
benchmarks/peers. Every way has a process of its own. They take turns of a few seconds, round by
round, while the others wait. The results are medians over rounds, ratios of ours to theirs, and
each one's share of this machine's matrix peak, which is measured in every round, too. torch's rows
have nanoGPT's optimizer for CPUs, or the fused one. torch may be in another environment (`pip
install torch` there): name its python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import write_report
from benchmarks.sizes import SIZES
from scaling.utils.errors import UserError

WAYS = {  # name -> (module, mode)
    "scaling": ("ours", ""),
    "plain JAX": ("plain_jax", ""),
    "Linen": ("linen", ""),
    "torch eager": ("torch_gpt", "eager"),
    "torch compiled": ("torch_gpt", "compiled"),
    "torch eager fused": ("torch_gpt", "eager fused"),
    "torch compiled fused": ("torch_gpt", "compiled fused"),
}
# the second baseline and torch as nanoGPT calls it on CPUs
QUICK = ["scaling", "plain JAX", "torch eager", "torch compiled"]
OPTIMIZER = (
    "torch eager, torch compiled: torch.optim.AdamW as nanoGPT calls it on CPUs, not fused; "
    "... fused: with fused=True, which nanoGPT sets on CUDA only"
)
ROOT = Path(__file__).resolve().parent.parent


class Worker:
    """A process of benchmarks.peers that waits for its turn."""

    def __init__(self, way: str, size: str, tokens: Path, python: str):
        module, mode = WAYS[way]
        command = [
            python,
            "-m",
            f"benchmarks.peers.{module}",
            f"--size={size}",
            f"--tokens={tokens}",
        ]
        self.way = way
        self._process = subprocess.Popen(
            [*command, *([f"--mode={mode}"] if mode else [])],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.step_seconds = 0.0
        self.reply = self._answer()

    def turn(self, steps: int) -> float:
        """Train `steps` and return the seconds per step."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        self.reply = self._answer()
        self.step_seconds = self.reply["seconds"] / self.reply["steps"]
        return self.step_seconds

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise UserError(
            f"{self.way} ended with exit code {self._process.wait()}; its error is above"
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def missing(python: str) -> str:
    """Return why `python` cannot run torch's rows, in one line, or "" if it can."""
    try:
        code = subprocess.run([python, "-c", "import torch, numpy"], capture_output=True).returncode
    except OSError as error:
        return f"--torch_python={python}: {error.strerror}"
    if code == 0:
        return ""
    return f"torch is missing in {python}, name another by --torch_python"


def chosen(ways: str, python: str) -> tuple[list[str], list[str]]:
    """Return the ways to measure, and one line per reason for those left out.

    Raises UserError at an unknown way.
    """
    selected = {"all": list(WAYS), "quick": QUICK}.get(ways) or ways.split(",")
    if unknown := [way for way in selected if way not in WAYS]:
        raise UserError(f"--ways: {unknown[0]!r} is none of all, quick, {', '.join(WAYS)}")
    if "scaling" not in selected:
        raise UserError(f"--ways={ways}: add scaling, which the others are compared with")
    lines = []
    if rest := [way for way in WAYS if way not in selected]:
        lines.append(f"left out by --ways={ways}: {', '.join(rest)}")
    torch = [way for way in selected if way.startswith("torch")]
    if torch and (why := missing(python)):
        lines.append(f"{why}; rows left out: {', '.join(torch)}")
        selected = [way for way in selected if way not in torch]
    return selected, lines


def floor(runtime: str, python: str) -> tuple[float, str]:
    """Return the peak resident MiB of a process that only imports `runtime`, and its version."""
    done = subprocess.run(
        [python, "-m", "benchmarks.peers.floor", f"--runtime={runtime}"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    reply = json.loads(done.stdout)
    return reply["peak_rss"] / 2**20, reply["version"]


def memory(figures: dict[str, Any], floors: dict[str, float]) -> list[str]:
    """Compare our peak resident memory with the bar: torch's plus that of the JAX runtime alone."""
    rows = {way: row["peak_rss_mib"] for way, row in figures["rows"].items()}
    torch = [mib for way, mib in rows.items() if way.startswith("torch")]
    if not torch:
        return []
    bar = min(torch) + floors["jax"]
    return [
        f"  memory: scaling {rows['scaling']:,.0f} MiB; bar {bar:,.0f} MiB, the least of "
        f"torch's ways ({min(torch):,.0f}) and the JAX runtime ({floors['jax']:,.0f})"
    ]


@contextlib.contextmanager
def corpus() -> Iterator[Path]:
    """Yield the path of a .npy with the embedded corpus's training bytes."""
    from benchmarks.peers.ours import config_of
    from scaling.data import prepare

    with tempfile.TemporaryDirectory(prefix="scaling-bench-") as folder:
        path = Path(folder) / "tokens.npy"
        np.save(path, np.asarray(prepare.prepare(config_of("S").data).train))
        yield path


def measure(size: str, ways: list[str], args, tokens: Path) -> dict[str, Any]:
    """Return the rows of one size by way: tokens per second, our ratio, share of peak, memory."""
    from benchmarks.peers.ours import config_of
    from scaling import accounting
    from scaling.utils import machine

    python = {way: args.torch_python if "torch" in way else sys.executable for way in ways}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    peaks = []
    with contextlib.ExitStack() as stack:
        workers = {}
        for way in ways:
            workers[way] = stack.enter_context(
                contextlib.closing(Worker(way, size, tokens, python[way]))
            )
            workers[way].turn(SIZES[size].dispatch)  # to time its steps
        for _ in range(args.rounds):
            peaks.append(machine.peak_flops.__wrapped__())
            for way, worker in workers.items():
                steps = max(1, round(args.seconds / worker.step_seconds))
                speeds[way].append(SIZES[size].tokens_per_step / worker.turn(steps))
        replies = {way: worker.reply for way, worker in workers.items()}
    per_token = accounting.flops_per_token(accounting.shape_of(config_of(size)), "exact")
    peak, median = max(peaks), {way: statistics.median(s) for way, s in speeds.items()}
    rows = {
        way: {
            "tokens_per_second": median[way],
            "lowest": min(speeds[way]),
            "highest": max(speeds[way]),
            "scaling_over_this": statistics.median(
                ours / other for ours, other in zip(speeds["scaling"], speeds[way], strict=True)
            ),
            "share_of_peak": median[way] * per_token / peak,
            "peak_rss_mib": replies[way]["peak_rss"] / 2**20,
            "last_loss": replies[way]["loss"],
        }
        for way in ways
    }
    return {"peak_gflops": peak / 1e9, "flops_per_token": per_token, "rows": rows}


def table(size: str, figures: dict[str, Any]) -> list[str]:
    lines = [
        f"{size}: matrix peak {figures['peak_gflops']:.0f} GFLOP/s",
        f"  {'':20} {'tokens/s':>9} {'scaling is':>10} {'of peak':>8} {'memory':>9} {'loss':>6}",
    ]
    for way, row in figures["rows"].items():
        lines.append(
            f"  {way:20} {row['tokens_per_second']:9,.0f} {row['scaling_over_this']:9.2f}x "
            f"{row['share_of_peak']:8.0%} {row['peak_rss_mib']:5,.0f} MiB {row['last_loss']:6.2f}"
        )
    return lines


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sizes", default="XS,S,M", help="any of " + ", ".join(SIZES))
    parser.add_argument("--ways", default="all", help="all, quick, or any of " + ", ".join(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one turn")
    parser.add_argument("--torch_python", default=sys.executable, help="a python that has torch")
    parser.add_argument("--out", default="results/bench/training_step.json")
    args = parser.parse_args(argv)
    sizes = args.sizes.split(",")
    if unknown := [size for size in sizes if size not in SIZES]:
        parser.error(f"--sizes={args.sizes}: {unknown[0]} is none of {', '.join(SIZES)}")
    ways, without = chosen(args.ways, args.torch_python)
    runtimes = {"jax": floor("jax", sys.executable)}
    if any(way.startswith("torch") for way in ways):
        runtimes["torch"] = floor("torch", args.torch_python)
    floors = {runtime: mib for runtime, (mib, _) in runtimes.items()}
    taken = ", ".join(
        f"{name} {version} {mib:,.0f} MiB" for name, (mib, version) in runtimes.items()
    )
    by_size, lines = {}, [*without, OPTIMIZER, f"a runtime alone takes: {taken}"]
    print(*lines, sep="\n", flush=True)
    with corpus() as tokens:
        for size in sizes:
            by_size[size] = measure(size, ways, args, tokens)
            rows = [*table(size, by_size[size]), *memory(by_size[size], floors)]
            print(*rows, sep="\n", flush=True)
            lines += rows
    settings = {"rounds": args.rounds, "seconds": args.seconds, "left_out": without}
    settings |= {"optimizer": OPTIMIZER, "floor_mib": floors}
    settings["runtimes"] = {runtime: version for runtime, (_, version) in runtimes.items()}
    write_report(args.out, {**settings, "sizes": by_size}, lines)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
