"""Forecast the FLOPs, time, disk and money of a sweep from measured steps of each size.

    seconds of a run = tokens left / (tokens/s) + evaluations + checkpoints
    seconds of a sweep = the sum over its runs + compilation once per size, for one worker

Runs with a result cost nothing. A run that has begun costs its remaining part.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from scaling.config import field_traits
from scaling.programs import train_step
from scaling.sweep.execute import jobs, progress
from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.execute.snapshot import ENDED, RunState, Snapshot
from scaling.sweep.plan.planner import PlannedRun
from scaling.training import benchmark
from scaling.training.benchmark import Size
from scaling.utils import files, machine, units

ROW_BYTES = 300  # of metrics.jsonl and TensorBoard's events per logged row, as measured


@dataclass(frozen=True)
class Cost:
    """The remaining cost of a sweep: FLOPs ("exact" convention), seconds of one worker."""

    runs: int  # planned
    left: int  # of these, without a result
    flops: float  # of the runs left
    flops_all: float  # of all planned
    seconds: float
    compile_seconds: float  # part of `seconds`
    checkpoint_bytes: int  # of the runs left, at their end
    log_bytes: int  # of the runs left
    device_hours: float  # a CPU host is one device, for any number of virtual devices
    price: float  # at config.launch.price_per_device_hour; 0 if that is None
    sizes: list[Size]
    run_seconds: dict[str, float]  # run_id -> its part of `seconds`, compilation left out
    device: str
    unit: str  # the unit of `tokens` in the field


def look(config: ConfigDict, runs: list[PlannedRun], workdir: Path | None) -> Snapshot:
    """Return the progress of the plan in `workdir`. Without a workdir no run has begun."""
    planned = jobs.runs_by_id(runs, config.launch.share_trunks)
    folder = workdir or Path("/nonexistent")
    return progress.Progress(planned, folder, config.launch.stale_seconds).look()


def forecast(config: ConfigDict, runs: list[PlannedRun], now: Snapshot) -> Cost:
    """Measure every size that has runs left, and return the total cost. A size takes seconds.

    `now`: the result of `look` at the same runs.
    """
    configs = [r.config for r, s in zip(runs, now.runs, strict=True) if s.state not in ENDED]
    keys = {train_step.program_key(one) for one in configs}
    with tqdm(total=len(keys), desc="measuring", unit="size", disable=None, file=sys.stderr) as bar:
        sizes = benchmark.sizes(configs, lambda size: bar.update())
    return add_up(config, runs, now, sizes)


def add_up(
    config: ConfigDict, runs: list[PlannedRun], now: Snapshot, sizes: Mapping[str, Size]
) -> Cost:
    """Return the cost of the runs left, by measurements `sizes` (program key -> size)."""
    compiling = sum(size.setup_seconds for size in sizes.values())
    each: dict[str, float] = {}
    n_bytes = rows = 0
    parts = jobs.runs_by_id(runs, config.launch.share_trunks).values()
    for part, state in zip(parts, now.runs, strict=True):
        if state.state not in ENDED:
            size = sizes[train_step.program_key(part.run.config)]
            each[state.run_id] = run_seconds(part, state, size)
            kept = min(part.run.config.checkpoint.keep, _saves(part)) + len(part.keep_steps)
            n_bytes += kept * size.checkpoint_bytes
            rows += math.ceil(part.run.steps / part.run.config.train.log_every)
    seconds = compiling + sum(each.values())
    hours = seconds / 3600 * machine.device_count()
    return Cost(
        runs=len(runs),
        left=len(each),
        flops=now.left,
        flops_all=now.flops,
        seconds=seconds,
        compile_seconds=compiling,
        checkpoint_bytes=n_bytes,
        log_bytes=rows * ROW_BYTES,
        device_hours=hours,
        price=hours * (config.launch.price_per_device_hour or 0.0),
        sizes=sorted(sizes.values(), key=lambda s: s.n_params),
        run_seconds=each,
        device=machine.device_name(),
        unit=field_traits.UNITS[config.data.field],
    )


def run_seconds(part: JobRun, state: RunState, size: Size) -> float:
    """Return the seconds of one worker until the run ends, without compiling and a shared trunk."""
    left, every = 1 - state.fraction, part.run.config.eval.every_tokens
    evaluations = 1 + (part.tokens * left // every if every else 0)
    return (
        part.tokens * left / size.tokens_per_second
        + evaluations * size.evaluation_seconds
        + (_saves(part) + len(part.keep_steps)) * left * size.checkpoint_seconds
    )


def _saves(part: JobRun) -> int:
    """Return the number of checkpoints that a run writes."""
    return math.ceil(part.tokens / benchmark.tokens_between_checkpoints(part.run.config))


def write(cost: Cost, workdir: Path) -> Path:
    """Write `<workdir>/cost.json` and return its path."""
    path = workdir / "cost.json"
    content: dict[str, Any] = dataclasses.asdict(cost)
    files.write_json(path, content | {"commit": machine.commit(), "versions": machine.versions()})
    return path


def rows(cost: Cost) -> list[dict[str, Any]]:
    """Return one row per measured size, for a table."""
    return [
        {
            "width": s.width,
            "depth": s.depth,
            "n_params": s.n_params,
            f"{cost.unit}/s": s.tokens_per_second,
            "MFU": s.mfu,
            "compile_s": s.setup_seconds,
            "evaluate_s": s.evaluation_seconds,
            "checkpoint_s": s.checkpoint_seconds,
            "checkpoint": units.size(s.checkpoint_bytes),
        }
        for s in cost.sizes
    ]


def sums(cost: Cost) -> list[str]:
    """Return the totals as lines of text."""
    lines = [
        f"{cost.left} of {cost.runs} runs left, {cost.flops:.3g} of {cost.flops_all:.3g} FLOPs",
        f"about {units.duration(cost.seconds)} for one worker on {cost.device}, "
        f"{units.duration(cost.compile_seconds)} of it compiling",
        f"disk: {units.size(cost.checkpoint_bytes)} of checkpoints, {units.size(cost.log_bytes)} "
        "of logs",
    ]
    if cost.price:
        lines.append(f"{cost.device_hours:.3g} device-hours, {cost.price:,.2f} at the price given")
    return lines
