"""Measure the cost of one size on this machine: a few steps of its real programs, on random tokens.

It measures building and compiling (once per worker and size; less if the compilation cache on disk
has the programs already), training steps, one held-out evaluation and one checkpoint. It leaves out
reading the data, which a thread does ahead, and starting the process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import field_traits
from scaling.config import load as config_lib
from scaling.fields import registry as fields
from scaling.programs import schedules, train_step
from scaling.training.checkpoint import Checkpoints
from scaling.utils import machine, signals

SECONDS = 0.5  # a timed dispatch has as many steps as take about this long, at most a whole one
REPEATS = 3  # timed dispatches; their median counts


@dataclass(frozen=True)
class Size:
    """One size of model on this machine; all its runs share their compiled programs."""

    width: int
    depth: int
    n_params: int
    setup_seconds: float  # building and compiling: start, training, evaluation
    step_seconds: float
    tokens_per_second: float
    mfu: float  # "exact" FLOPs over the matrix peak, see `machine.utilisation`
    evaluation_seconds: float  # of all config.eval.tokens
    checkpoint_seconds: float  # until it is on disk; in a run, part of it overlaps with training
    checkpoint_bytes: int


def measure(config: ConfigDict, runs: int = 1) -> Size:
    """Measure the cost of one run, alone or as its share of a program with `runs` packed ones.

    Raises UserError if the mesh does not fit the machine or the config.
    """
    held_out_B = _random(config, (config.eval.batch_size,))
    started = time.perf_counter()
    steps = _Steps(config, runs)

    def evaluate() -> None:
        np.asarray(steps.programs.readings(steps.state["params"], held_out_B)["loss"])

    steps.train(1)
    evaluate()
    setup = time.perf_counter() - started
    per_step = steps.seconds()
    batches = -(-config_lib.held_out_rows(config) // config.eval.batch_size)
    shape = accounting.shape_of(config)
    speed = config_lib.tokens_per_step(config) / per_step
    seconds, n_bytes = _checkpoint(steps.programs.split(steps.state)[0])
    return Size(
        width=shape.width,
        depth=shape.depth,
        n_params=accounting.param_counts(shape)["n_params"],
        setup_seconds=setup,
        step_seconds=per_step,
        tokens_per_second=speed,
        mfu=machine.utilisation(
            speed * accounting.flops_per_token(shape, "exact"), config.model.dtype
        ),
        evaluation_seconds=batches
        * statistics.median(_timed(evaluate) for _ in range(REPEATS))
        / runs,
        checkpoint_seconds=seconds,
        checkpoint_bytes=n_bytes,
    )


def training(config: ConfigDict, runs: int = 1) -> tuple[float, float]:
    """(seconds until the training program ran once, tokens per second); cheaper than `measure`."""
    started = time.perf_counter()
    steps = _Steps(config, runs)
    steps.train(1)
    setup = time.perf_counter() - started
    return setup, config_lib.tokens_per_step(config) / steps.seconds()


class _Steps:
    """The training program of `runs` runs with a state and a batch for it."""

    def __init__(self, config: ConfigDict, runs: int):
        signals.check()
        self.runs, self.most = runs, config.train.steps_per_dispatch
        batch_KB = _random(config, (self.most, config.train.batch_size))
        hyper = schedules.hyperparameters(config).items()
        self.hyper_R = {k: np.full(runs, v, np.float32) for k, v in hyper}
        self.programs = train_step.programs(config, runs)
        self.state = self.programs.join([self.programs.init(config.seed + r) for r in range(runs)])
        self.batch = self.programs.batch(jax.tree.map(lambda x: np.stack([x] * runs), batch_KB))

    def train(self, count: int) -> None:
        """`count` steps of each run in one dispatch."""
        zeros_R = np.zeros(self.runs, np.int32)
        self.state, metrics = self.programs.train(
            self.state, self.hyper_R, self.batch, zeros_R, zeros_R, zeros_R + np.int32(count)
        )
        np.asarray(metrics["loss"])  # a run waits for it, too

    def seconds(self) -> float:
        """Return the seconds of one step of one run, after the first."""
        count = max(1, min(self.most, round(SECONDS / _timed(lambda: self.train(1)))))
        whole = statistics.median(_timed(lambda: self.train(count)) for _ in range(REPEATS))
        return whole / (count * self.runs)


def _timed(call: Callable[[], None]) -> float:
    signals.check()
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _random(config: ConfigDict, lead: tuple[int, ...]) -> Any:
    """Return a batch with the axes `lead` in front, of random ids, labels, pixels or numbers."""
    rng, d = np.random.default_rng(0), config.data
    labelled = d.field in field_traits.LABELLED

    def draw(row):
        if not np.issubdtype(row.dtype, np.integer):
            return rng.random((*lead, *row.shape)).astype(row.dtype)
        most = d.vocab_size if not labelled else 256 if row.shape else d.classes
        return rng.integers(0, most, (*lead, *row.shape), row.dtype)

    return jax.tree.map(draw, fields.of(d.field).example(config))


def _checkpoint(state: Any) -> tuple[float, int]:
    """(seconds, bytes) of a second checkpoint of `state`; the first also sets orbax up."""
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder), keep=2) as checkpoints:
        seconds = 0.0
        for number in (1, 2):
            started = time.perf_counter()
            checkpoints.save(number, state, {"next_index": number, "elapsed": 0.0})
            checkpoints.wait()
            seconds = time.perf_counter() - started
        files = (p for p in (Path(folder) / "2").rglob("*") if p.is_file())
        return seconds, sum(p.stat().st_size for p in files)


def sizes(configs: list[ConfigDict], on_size=lambda size: None) -> dict[str, Size]:
    """program key -> its measurement, one per distinct program; `on_size` is called after each."""
    by_key: dict[str, Size] = {}
    for config in configs:
        key = train_step.program_key(config)
        if key not in by_key:
            by_key[key] = measure(config)
            on_size(by_key[key])
    return by_key


def tokens_between_checkpoints(config: ConfigDict) -> int:
    """Return the tokens between checkpoints, rounded to whole dispatches as in `ActiveRun`."""
    per_dispatch = config.train.steps_per_dispatch * config_lib.tokens_per_step(config)
    return max(1, round(config.checkpoint.every_tokens / per_dispatch)) * per_dispatch
