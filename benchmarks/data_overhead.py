"""What does reading cost? Step time on real batches over step time on one constant batch.

    python -m benchmarks.data_overhead --config=configs/quickstart.py

Interleaves both, takes medians, and prints one row per size of the sweep's plan; the bar is 1.05. Writes
`results/bench/data_overhead.json` with the machine and versions.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import numpy as np

from benchmarks import common
from scaling import config as config_lib
from scaling import machine, sharding

REPEATS = 6


def measure(config) -> dict[str, float]:
    """Median milliseconds per step, constant and real, and their ratio, for one size."""
    import jax

    from scaling import optim, step
    from scaling.data import pipeline, prepare

    programs = step.programs(config)
    data = prepare.prepare(config.data)
    K = config.train.steps_per_dispatch
    source = pipeline.Dispatches(
        data.train,
        seq_len=config.data.seq_len,
        batch_size=config.train.batch_size,
        steps=K,
        seed=0,
    )
    place = sharding.batch_sharding(programs.mesh, leading=1)
    constant = jax.make_array_from_process_local_data(place, source[0])
    stream = pipeline.iterate(source, 0, config.data.prefetch)
    hyper = {k: np.float32(v) for k, v in optim.hyperparameters(config).items()}
    state = programs.init(0)
    times: dict[str, list[float]] = {"constant": [], "real": []}
    for repeat in range(REPEATS + 1):
        for kind in ("constant", "real"):
            start = time.perf_counter()
            for _ in range(4):
                batch = (
                    constant
                    if kind == "constant"
                    else jax.make_array_from_process_local_data(place, next(stream))
                )
                state, metrics = programs.jitted(
                    state, hyper, batch, np.int32(0), np.int32(0), np.int32(K)
                )
            metrics["loss"].block_until_ready()
            if repeat:  # the first holds the compilation
                times[kind].append((time.perf_counter() - start) / (4 * K) * 1e3)
    constant_ms, real_ms = (statistics.median(times[k]) for k in ("constant", "real"))
    return {"constant_ms": constant_ms, "real_ms": real_ms, "ratio": real_ms / constant_ms}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--out", default="results/bench/data_overhead.json")
    args, overrides = parser.parse_known_args(argv)
    config = config_lib.load(args.config, overrides)
    machine.start_jax(config.parallel.cpu_devices)
    from scaling.sweep import plan

    rows = []
    sizes = {run.n_params: run for run in plan.plan(config)}
    print(f"{'width':>5} {'n_params':>9} {'constant':>10} {'real':>10} {'ratio':>7}")
    for n_params, run in sizes.items():
        row = {"width": run.config.model.width, "n_params": n_params, **measure(run.config)}
        rows.append(row)
        print(
            f"{row['width']:5} {n_params:9,} {row['constant_ms']:8.3f}ms {row['real_ms']:8.3f}ms "
            f"{row['ratio']:7.3f}",
            flush=True,
        )
    median = statistics.median(row["ratio"] for row in rows)
    print(f"median ratio {median:.3f}: reading costs {median - 1:+.1%} of a step")
    common.write_report(args.out, {"config": config.name, "rows": rows, "median_ratio": median})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
