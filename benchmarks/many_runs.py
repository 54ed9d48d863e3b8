"""Measure the CPU seconds of each step of a sweep that touches all runs, without training.

    python -m benchmarks.many_runs [--runs=1000,10000] [--out=FILE]

plans a grid of that many runs of configs/mini.py; half of them fork from trunks. It writes a result
for each as a worker would have left it, and times the commands on them. Nothing is trained.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import common
from scaling import cli, results
from scaling.config import load as config_lib
from scaling.fields import registry as fields
from scaling.sweep.execute import jobs, progress, runner
from scaling.sweep.execute.worker import Worker
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.sweep.shared.claims import Claims
from scaling.training import spec as run_spec
from scaling.utils import machine

MINI = str(Path(__file__).resolve().parent.parent / "configs" / "mini.py")
LENGTHS = tuple(128 * (96 + 8 * i) for i in range(10))


def flags(runs: int) -> list[str]:
    """Return a config's flags for a grid of that many runs, a multiple of 20."""
    rates = tuple(1e-4 * 1.01**i for i in range(runs // (2 * len(LENGTHS))))
    return [
        f"--config={MINI}",
        "--config.sweep.kind=grid",
        '--config.sweep.grid_keys=("optim.schedule","train.tokens","optim.lr")',
        f'--config.sweep.grid_values=(("wsd","cosine"),{LENGTHS},{rates})',
        "--config.optim.warmup_tokens=2048",
        "--config.launch.pack=1",
    ]


def steps(runs: int, workdir: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield each step's name and call. Call it before you take the next one."""
    config = config_lib.load(MINI, flags(runs)[1:])
    planned = planner.plan(config)
    command = [*flags(runs), f"--workdir={workdir}"]
    yield "plan", lambda: planner.plan(config)
    yield "make jobs", lambda: jobs.jobs(jobs.job_runs(planned, True), 1)

    job_list = jobs.jobs(jobs.job_runs(planned, True), 1)
    sweep_json.create_or_check(config, workdir)
    _finish(planned, job_list[0][0].spec(workdir, "sweep"), workdir)
    claims = Claims(workdir / "claims", heartbeat=5, stale_after=60)
    yield "a worker's first pass", lambda: Worker(workdir, launch="x", claims=claims).work(job_list)
    yield "write the table", lambda: runner.write_table(workdir, [])
    yield "read the table", lambda: results.read_table(workdir / "runs.csv")
    looker = progress.Progress(jobs.runs_by_id(planned), workdir, stale_seconds=60)
    yield "first look", looker.look
    yield "second look", looker.look
    yield "scaling plan", lambda: cli.main(["plan", *flags(runs)])
    yield "scaling status", lambda: cli.main(["status", *command])
    yield "scaling sweep, all done", lambda: cli.main(["sweep", *command])
    for run in planned:
        (workdir / "claims" / run.run_id).mkdir(parents=True)
        (workdir / "claims" / run.run_id / "1.free").touch()
    yield "list the claims", claims.holders


def _finish(planned: list[planner.PlannedRun], spec: run_spec.RunSpec, workdir: Path) -> None:
    """Write a result for every run, like that of the first."""
    row = run_spec.describe(spec, fields.of("language").prepare(spec.config))
    row = dataclasses.replace(row, status="done", loss=2.0, train_loss=2.0)
    for run in planned:
        folder = workdir / "runs" / run.run_id
        folder.mkdir(parents=True)
        text = json.dumps(results.to_json(dataclasses.replace(row, run_id=run.run_id)))
        (folder / "result.json").write_text(text)


def timed(runs: int) -> dict[str, float]:
    """Return the CPU seconds of each step."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, step in steps(runs, Path(folder)):
            with contextlib.redirect_stdout(io.StringIO()):
                begun = time.process_time()
                step()
                seconds[name] = time.process_time() - begun
    return seconds


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="1000,10000", help="two numbers of runs")
    parser.add_argument("--out", default="results/bench/many_runs.json")
    args = parser.parse_args(argv)
    few, many = (int(n) for n in args.runs.split(","))
    machine.start_jax(config_lib.load(MINI, []).parallel.cpu_devices)
    timed(20)  # imports
    seconds = {runs: timed(runs) for runs in (few, many)}
    lines = [f"{'':24}{few:>10,}{many:>10,}  exponent"]
    for name, most in seconds[many].items():
        slope = math.log(most / seconds[few][name]) / math.log(many / few)
        lines.append(f"{name:24}{seconds[few][name]:9.3f}s{most:9.3f}s{slope:10.2f}")
    print(*lines, sep="\n")
    common.write_report(args.out, {"cpu_seconds": seconds}, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
