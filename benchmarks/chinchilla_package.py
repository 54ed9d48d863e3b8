"""Fit rows with the PyPI package `chinchilla`, in a process of its own because the package forks.

    python -m benchmarks.chinchilla_package < ROWS.json

JAX does not survive a fork. The script reads {"n_params", "tokens", "loss", "grid": {name:
[levels]}, "delta"} and prints one line of JSON: seconds of the package's `fit`, the starts tried,
and the law. The package writes a database and a picture of residuals to its project folder. The
folder is temporary, and the picture, which is no part of fitting, is skipped. All else is the
package's own: BFGS with numerical slopes in extended precision, one start per process and as many
processes as cores.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time

from scaling.utils.errors import UserError

NAME = "chinchilla"
LEVELS = ("e", "a", "b", "alpha", "beta")  # the order in which the package unpacks a start
MISSING = (
    f"--peer: the package {NAME} is not importable; `pip install {NAME}` into this environment, or "
    f"with --target=FOLDER elsewhere and PYTHONPATH=FOLDER"
)


def require() -> None:
    """Raise UserError with the install command if the package is missing."""
    if importlib.util.find_spec(NAME) is None:
        raise UserError(MISSING)


def fit(rows: dict) -> dict:
    """Run the package in a process of its own and return its figures. Raises UserError."""
    require()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chinchilla_package"],
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        raise UserError(f"--peer: {NAME} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    import chinchilla
    from chinchilla._metrics import log_huber

    rows = json.load(sys.stdin)
    grid = {name: rows["grid"][name] for name in LEVELS}
    with tempfile.TemporaryDirectory() as folder:
        package = chinchilla.Chinchilla(
            project_dir=folder,
            param_grid=grid,
            loss_fn=functools.partial(log_huber, delta=rows["delta"]),
            log_level=40,
        )
        for n, d, loss in zip(rows["n_params"], rows["tokens"], rows["loss"], strict=True):
            package.append(N=n, D=d, loss=loss)
        package.visualizer.optim = lambda *args, **kwargs: None
        begun = time.perf_counter()
        package.fit(parallel=True)
        seconds = time.perf_counter() - begun
    figures = {
        "version": importlib.metadata.version(NAME),
        "seconds": seconds,
        "starts": math.prod(len(levels) for levels in grid.values()),
        "processes": os.cpu_count(),
        "law": {key: float(value) for key, value in package.params.items()},
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
