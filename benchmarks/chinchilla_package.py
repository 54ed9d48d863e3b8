"""The PyPI package `chinchilla` on rows and starts of ours, in a process of its own: it forks, which JAX does not bear.

    python -m benchmarks.chinchilla_package < ROWS.json

Reads {"n_params", "tokens", "loss", "grid": {name: [levels]}, "delta"}, prints one line of JSON: seconds of its
`fit`, the starts tried, and the law found. The package writes a database and a picture of residuals to its project
folder; the folder is temporary, and the picture, which is no part of fitting, is skipped. All else is its own: BFGS with
numerical slopes in extended precision, one start per process and as many processes as cores.
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
    """Raises UserError, saying how to get the package, where it is not there."""
    if importlib.util.find_spec(NAME) is None:
        raise UserError(MISSING)


def fit(rows: dict) -> dict:
    """What the package finds, run in a process of its own. Raises UserError where it fails."""
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
    found = {
        "version": importlib.metadata.version(NAME),
        "seconds": seconds,
        "starts": math.prod(len(levels) for levels in grid.values()),
        "processes": os.cpu_count(),
        "law": {key: float(value) for key, value in package.params.items()},
    }
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
