"""Time the command `scaling fit` on tables of 300 and 10,000 rows, pictures included.

    python -m benchmarks.fit_commands [--repeats=2] [--out=FILE]

Each command runs in a process of its own. The first repeat compiles and fills a cache in a folder
of this benchmark's own, the later ones read it. Seconds are CPU seconds of all threads.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import common
from scaling.utils import files

LAW = ("--n_params=N", "--tokens=D", "--loss=loss")
CURVE = ("--x=C", "--loss=loss")
FIT = ("-m", "scaling", "fit")
COMMANDS: dict[str, tuple[str, ...]] = {
    "import of scaling.laws": ("-c", "from scaling.laws import api; api.fit"),
    "chinchilla, 10,000 rows": (*FIT, "large.csv", *LAW),
    "data_constrained, 300 rows": (
        *FIT, "repeated.csv", *LAW, "--unique_tokens=U", "--form=data_constrained",
    ),
    "combined curve, 300 rows": (*FIT, "small.csv", *CURVE, "--form=combined", "--at=1e22"),
    "m4, 300 rows": (*FIT, "small.csv", *CURVE, "--form=m4"),
}  # fmt: skip


def write_runs(path: Path, rows: int, repeated: bool = False) -> None:
    """Write runs of Chinchilla's law, at random sizes and tokens, with 0.5% noise."""
    rng = np.random.default_rng(rows)
    n = np.exp(rng.uniform(*np.log([1e7, 2e9]), rows))
    d = n * np.exp(rng.uniform(*np.log([5, 100]), rows))
    u = d / np.exp(rng.uniform(0, np.log(20), rows)) if repeated else d
    worth = u + u * 15.4 * (1 - np.exp(-(d / u - 1) / 15.4))  # Muennighoff et al. 2023
    loss = 1.82 + 478 * n**-0.347 + 2143 * worth**-0.367
    loss *= np.exp(0.005 * rng.standard_normal(rows))
    table = np.stack([n, d, u, 6 * n * d, loss], axis=1)
    lines = ["N,D,U,C,loss", *(",".join(map(repr, row)) for row in table.tolist())]
    files.write_bytes(path, "\n".join([*lines, ""]).encode())


def timed(arguments: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return (CPU seconds, wall seconds) of a process. Raises CalledProcessError if it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, check=True, capture_output=True,
        env={**os.environ, "SCALING_CACHE": str(folder / "cache")},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - started


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", default="results/bench/fit_commands.json")
    args = parser.parse_args(argv)
    report: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_runs(folder / "large.csv", 10_000)
        write_runs(folder / "small.csv", 300)
        write_runs(folder / "repeated.csv", 300, repeated=True)
        for name, command in COMMANDS.items():
            out = [f"--out={folder / 'out'}"] if "fit" in command else []
            runs = [timed([*command, *out], folder) for _ in range(args.repeats)]
            report[name] = ", then ".join(
                f"{cpu:.1f} s of CPU ({wall:.1f} s)" for cpu, wall in runs
            )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    report["largest memory"] = f"{peak:.2f} GiB"
    common.show_and_write(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
