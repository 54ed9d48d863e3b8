"""Compile one training program of `cost_scaling` and measure its compilation, memory and steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np

from scaling import accounting
from scaling.config import load as config_lib
from scaling.programs import ahead_of_time, schedules, train_step
from scaling.programs import memory as footprint

STEPS = 8  # of one dispatch, at most
TURN = 0.4  # seconds of one, at least


@dataclass
class Program:
    """A compiled training program, its state and its cost so far."""

    row: dict[str, float]
    call: Callable[[int], None]  # train this number of steps
    steps: int = 1  # of one turn
    walls: list[float] = field(default_factory=list)  # seconds per step of each turn
    cpus: list[float] = field(default_factory=list)

    def turn(self) -> None:
        self.call(1)  # memory that went back to the machine in between, caches, clock
        start, cpu = time.perf_counter(), time.process_time()
        self.call(self.steps)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        self.walls.append(wall / self.steps)
        self.cpus.append(cpu / self.steps)

    def finished(self) -> dict[str, float]:
        medians = {
            "step_wall": statistics.median(self.walls),
            "step_cpu": statistics.median(self.cpus),
        }
        return self.row | medians


def build(config) -> Program:
    """Compile a program and train its first steps."""
    programs = train_step.programs(config)
    arguments = ahead_of_time.arguments(config, programs)
    lowered = programs.jitted.lower(*arguments)
    start, cpu = time.perf_counter(), time.process_time()
    memory = lowered.compile().memory_analysis()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    shape = accounting.shape_of(config)
    row = {
        "compile_wall": wall,
        "compile_cpu": cpu,
        "operations": lowered.as_text().count(" = "),
        "flops": accounting.flops_per_token(shape, "exact") * config_lib.tokens_per_step(config),
        "memory": (memory.temp_size_in_bytes + memory.argument_size_in_bytes) / 2**20,
        "temporary": memory.temp_size_in_bytes / 2**20,
        "shapes": sum(footprint.parts(config, programs).values()) / 2**20,
    }
    tokens = np.random.default_rng(0).integers(0, 256, arguments[2].shape).astype(np.uint8)
    batch, hyper = programs.batch(tokens[None]), schedules.hyperparameters(config)
    hyper = {name: np.float32(value) for name, value in hyper.items()}
    held = [programs.init(0)]

    def call(steps: int) -> None:
        first, begin, end = np.int32(0), np.int32(0), np.int32(steps)
        state, metrics = programs.jitted(held.pop(), hyper, batch, first, begin, end)
        held.append(state)
        jax.block_until_ready(metrics)

    made = Program(row, call)
    call(1)
    made.turn()
    made.steps = int(np.clip(round(TURN / made.walls.pop()), 1, STEPS))
    made.cpus.clear()
    return made
