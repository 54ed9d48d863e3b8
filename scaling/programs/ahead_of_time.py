"""Compile a run's training program ahead of time: bytes, FLOPs and traffic of a device per step.

No data are read and nothing is allocated. One step is one optimizer step; all numbers are per
device.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import load as config_lib
from scaling.fields import registry as fields
from scaling.parallel import collectives, sharding
from scaling.parallel.collectives import Collective, Total
from scaling.programs import backend, memory, schedules, train_step
from scaling.programs.interface import Programs
from scaling.utils import machine, signals, units
from scaling.utils.errors import UserError

# A program whose memory by shapes is below this part of a device's fits without a compilation.
SURE = 0.25
DESCRIBED = 2.0**50  # bytes of shapes that jax can be asked about


@dataclass(frozen=True)
class Compiled:
    """One program. Bytes are of one device."""

    backend: str
    mesh: dict[str, int]
    n_params: int  # without embeddings, positions and head
    n_params_total: int
    parts: dict[str, float]  # bytes by memory.PARTS, from shapes
    arguments: float  # bytes of state and tokens, as compiled
    temporary: float  # bytes, at most, that live within a dispatch, as compiled
    total: float  # bytes: arguments, results that do not reuse their memory, temporary
    flops: float  # per step by accounting's "exact" convention, spread evenly over the devices
    flops_compiled: float | None  # per step as the compiler counts; None if a step has loops
    traffic: float | None  # bytes per step that it reads and writes in memory, likewise
    collectives: tuple[Collective, ...]  # see scaling/parallel/collectives.py
    seconds: float  # that compiling took

    @property
    def devices(self) -> int:
        return math.prod(self.mesh.values())

    @property
    def totals(self) -> dict[str, Total]:
        """Collectives of one step by kind."""
        return collectives.totals(self.collectives)

    @property
    def sent(self) -> float:
        """Bytes per step that a device sends, by the ring model of parallel/collectives.py."""
        return sum(total.sent for total in self.totals.values())


_compiled: dict[tuple[str, int], Compiled] = {}


def compiled(config: ConfigDict, runs: int = 1) -> Compiled:
    """Compile the program of `config`, or of `runs` packed ones, on all devices, once per process.

    Raises UserError if the mesh fits neither the devices nor the model.
    """
    key = train_step.program_key(config), runs
    if key not in _compiled:
        _compiled[key] = _compile(config, train_step.programs(config, runs))
    return _compiled[key]


def arguments(config: ConfigDict, programs: Programs) -> tuple[Any, ...]:
    """Return the arguments of `programs.jitted` as shapes; packed runs have their axis in front.

    A run's own arguments lie on the mesh in the same way, so that its first call finds the program
    compiled from these.
    """
    c, runs = config, programs.runs
    if runs == 1:
        on_mesh = sharding.batch_sharding(programs.mesh, leading=1)
    else:
        on_mesh = NamedSharding(programs.mesh, PartitionSpec("run"))
    lead = c.train.steps_per_dispatch, c.train.batch_size
    batch_KB = jax.tree.map(
        lambda row: jax.ShapeDtypeStruct((*lead, *row.shape), row.dtype, sharding=on_mesh),
        fields.of(c.data.field).example(c),
    )
    hyper = {k: jax.ShapeDtypeStruct((), jnp.float32) for k in schedules.hyperparameters(c)}
    number = jax.ShapeDtypeStruct((), jnp.int32)
    alone = programs.state_like, hyper, batch_KB, number, number, number
    if runs == 1:
        return alone

    def packed(x):  # numbers come from the host and have no sharding yet
        sharding = on_mesh if x.sharding else None
        return jax.ShapeDtypeStruct((runs, *x.shape), x.dtype, sharding=sharding)

    return jax.tree.map(packed, alone)


@contextlib.contextmanager
def compile_in_background(config: ConfigDict, programs: Programs) -> Iterator[None]:
    """Compile the training program in a thread while the body runs, and wait for it at the end.

    The first call of `programs.train` then finds it compiled. Only the compiler runs beside the
    body, since it does not hold Python's lock; tracing is done before. Raises Preempted after a
    signal.
    """
    lowered = programs.jitted.lower(*arguments(config, programs))
    pool = ThreadPoolExecutor(1)
    compiling = pool.submit(lowered.compile)
    pool.shutdown(wait=False)
    yield
    while not wait([compiling], timeout=signals.PAUSE_SECONDS).done:
        signals.check()
    compiling.result()


def _compile(config: ConfigDict, programs: Programs) -> Compiled:
    started = time.perf_counter()
    lowered = programs.jitted.lower(*arguments(config, programs))
    program = lowered.compile(compiler_options=backend.quick())  # it is not run
    seconds = time.perf_counter() - started
    analysis, text = program.memory_analysis(), program.as_text()
    cost = program.cost_analysis() or {}
    loops = collectives.inner_loops(text) > 1
    shape = accounting.shape_of(config)
    counts = accounting.param_counts(shape)
    flops = accounting.flops_per_token(shape, "exact") * config_lib.tokens_per_step(config)
    outputs = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Compiled(
        backend=jax.default_backend(),
        mesh=dict(programs.mesh.shape),
        n_params=counts["n_params"],
        n_params_total=counts["n_params_total"],
        parts=memory.parts(config, programs),
        arguments=float(analysis.argument_size_in_bytes),
        temporary=float(analysis.temp_size_in_bytes),
        total=float(analysis.argument_size_in_bytes + outputs + analysis.temp_size_in_bytes),
        flops=programs.runs * flops / programs.mesh.size,
        flops_compiled=None if loops else cost.get("flops"),
        traffic=None if loops else cost.get("bytes accessed"),
        collectives=tuple(collectives.read(text, config.train.steps_per_dispatch)),
        seconds=seconds,
    )


def memory_limit(config: ConfigDict) -> tuple[float, str]:
    """(bytes that a device may hold, the source of that number); (0, "") if none is known."""
    if config.parallel.device_memory_gb != "auto":
        stated = config.parallel.device_memory_gb
        return stated * 1e9, f"config.parallel.device_memory_gb={stated:g}"
    device = jax.local_devices()[0]
    known = (device.memory_stats() or {}).get("bytes_limit", 0)
    return float(known), f"{device.device_kind} with {units.size(known)}" if known else ""


def check_fits_memory(config: ConfigDict, runs: int = 1) -> None:
    """Raise UserError if the run, or the pack of `runs`, needs more memory than there is.

    Compiles only if the shapes do not decide it. Devices without a limit of their own, such as
    CPUs, share the memory of their machine.
    """
    _check_counts(config)
    if line := refusal(config, runs) or _host_refusal(config, runs):
        raise UserError(line)


def check_all_fit_memory(configs: Iterable[Mapping[str, Any]]) -> None:
    """`check_fits_memory` for flat configs, once per program; on CPUs by counts alone."""
    for values in {train_step.program_key(values): values for values in configs}.values():
        config = config_lib.from_flat(values)
        _check_counts(config)
        if line := refusal(config):
            raise UserError(line)


def _check_counts(config: ConfigDict) -> None:
    """Raise UserError if parameters, gradients and batches need more than all devices have.

    Counts alone decide, so that no array of an absurd shape is described to jax.
    """
    c, (limit, source) = config, memory_limit(config)
    allowed = max(limit * jax.device_count(), DESCRIBED)  # up to there `refusal` says more
    if not source:
        allowed = machine.memory_bytes() * jax.process_count()
        source = f"this machine with {units.size(machine.memory_bytes())}"
    shape = accounting.shape_of(c)
    n_params = accounting.param_counts(shape)["n_params_total"]
    row = memory.row_bytes(c)
    needs = {
        f"{n_params:.3g} parameters and their gradients; lower config.model.width or depth": (
            2 * n_params * jnp.dtype(c.model.param_dtype).itemsize
        ),
        "the rows of a dispatch; lower config.train.steps_per_dispatch or batch_size": (
            row * c.train.steps_per_dispatch * c.train.batch_size
        ),
        "the rows of an evaluation step; lower config.eval.batch_size": row * c.eval.batch_size,
    }
    for what, need in needs.items():
        if need > allowed:
            raise UserError(
                f"{source}: width {shape.width}, depth {shape.depth} needs {units.size(need)} on "
                f"{jax.device_count()} devices together for {what}"
            )


def _host_refusal(config: ConfigDict, runs: int) -> str:
    """Why the shapes do not fit the memory that the CPU devices of a machine share."""
    if jax.default_backend() != "cpu":
        return ""
    programs, allowed = train_step.programs(config, runs), machine.memory_bytes()
    parts, devices = memory.parts(config, programs), jax.local_device_count()
    total = devices * sum(parts.values())
    if total <= allowed:
        return ""
    source = f"this machine with {units.size(allowed)}"
    return f"{source}: {_need(config, programs, parts, total / devices, 'at least ')}"


def refusal(config: ConfigDict, runs: int = 1) -> str:
    """Why the program does not fit, in one line; "" if it does or no limit is known."""
    allowed, source = memory_limit(config)
    if not allowed:
        return ""
    programs = train_step.programs(config, runs)
    parts = memory.parts(config, programs)
    state = parts["params"] + parts["optimizer"] + parts["gradients"]
    if sum(parts.values()) < SURE * allowed:
        return ""
    state_is_enough = state > allowed  # to refuse: then nothing is compiled
    total = state if state_is_enough else compiled(config, runs).total
    if total <= allowed:
        return ""
    at_least = "at least " if state_is_enough else ""
    return f"{source}: {_need(config, programs, parts, total, at_least)}"


def _need(
    config: ConfigDict, programs: Programs, parts: dict[str, float], total: float, at_least: str
) -> str:
    """Return what a program needs on each device, its largest parts and the remedies."""
    largest = sorted(parts, key=lambda name: -parts[name])[:3]
    named = ", ".join(f"{name} {units.size(parts[name])}" for name in largest)
    m = config.model
    return (
        f"width {m.width}, depth {m.depth} at batch {config.train.batch_size} needs "
        f"{at_least}{units.size(total)} on each of {programs.mesh.size} devices; the largest by "
        f"shapes: {named}; {memory.remedies(config, programs, parts)}"
    )
