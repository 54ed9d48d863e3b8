"""Resolve "auto" on this process's backend: attention, matrix products, overlap of network and
compute.

docs/accelerators.md describes each choice, and names those that were only lowered and never run.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jax
from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import field_traits
from scaling.models import fused, ops
from scaling.utils.devices import Device

# Options of the compiler that let collectives run beside computation, by backend, if "auto" differs
# from XLA's own default. They belong to one program alone, unlike XLA_FLAGS.
OVERLAP: dict[str, dict[str, bool]] = {
    # Schedules collectives early and their use late. It is off by default since it takes memory and
    # time to compile. NVIDIA's JAX images turn it on
    # (docs.nvidia.com/jax-toolbox/environment-variables), XLA does so at its optimisation level O1
    # (openxla.org/xla/gpu_optimization_levels).
    "gpu": {"xla_gpu_enable_latency_hiding_scheduler": True},
    # None: libtpu's scheduler hides latency by default, and openxla.org/xla/flags_guidance suggests
    # the defaults of its flags for asynchronous collectives.
    "tpu": {},
}


# Packed runs share a device by "vmap", which batches their products, or by "map", which trains them
# one after another inside one program. On two CPU cores batched products (docs/running_sweeps.md)
# cost more than they save, on accelerators small products leave most of the chip idle.
RUN_AXIS = {"cpu": "map"}

# Evaluation steps that may be queued, elsewhere 2. On CPUs steps do not wait for each other. A
# collective of one step may then hold the thread that its other half needs while the next step's
# runs (a deadlock of jax 0.10 on two busy cores).
EVALUATIONS_IN_FLIGHT = {"cpu": 1}

# Options for programs that run once or never: they compile in a quarter of the time.
QUICK = {"cpu": {"xla_backend_optimization_level": 0}}


@dataclass(frozen=True)
class Choice:
    """The resolved choices of a program."""

    attention: str
    matmul: str
    options: dict[str, bool]  # of its compiler

    def __str__(self) -> str:
        latency = "latency hiding on" if self.options else "latency hiding as XLA has it"
        return f"attention {self.attention}, matrix products {self.matmul}, {latency}"


def choose(c: ConfigDict, mesh: Mapping[str, int], device: Device | None = None) -> Choice:
    """Return the choice for `c` on `device`, or else on this process's backend.

    `mesh` holds the sizes of its axes.

    Raises UserError if the config asks for a form that the backend or the mesh cannot run.
    """
    backend, m = device.platform if device else jax.default_backend(), c.model
    head_dim = 0
    if backend == "gpu":
        head_dim = _head_dim(device.generation) if device else cudnn_head_dim()
    pick = functools.partial(
        ops.pick,
        backend=backend,
        sequence_shards=mesh.get("sequence", 1),
        refusal=functools.partial(
            fused.refusal,
            backend=backend,
            dtype=m.dtype,
            width=m.width,
            head_dim=m.head_dim,
            seq_len=accounting.shape_of(c).seq_len,
            grid=c.data.field in field_traits.LABELLED,
            cudnn_head_dim=head_dim,
        ),
    )
    return Choice(
        attention=pick(m.attention, kind="attention"),
        matmul=pick(m.matmul, kind="matmul"),
        options=overlap(c.parallel.latency_hiding, backend, math.prod(mesh.values())),
    )


def run_axis() -> str:
    """ "vmap" or "map", see RUN_AXIS."""
    return RUN_AXIS.get(jax.default_backend(), "vmap")


def evaluations_in_flight() -> int:
    return EVALUATIONS_IN_FLIGHT.get(jax.default_backend(), 2)


def quick() -> dict[str, int] | None:
    """Compiler options of a program that runs once, as initialisation does, or never."""
    return QUICK.get(jax.default_backend())


def overlap(choice: str, backend: str, n_devices: int) -> dict[str, bool]:
    """Resolve config.parallel.latency_hiding to compiler options; one device has nothing to hide.

    Options that $XLA_FLAGS or $LIBTPU_INIT_ARGS name are left out.
    """
    if choice == "none" or n_devices == 1:
        return {}
    flags = f"{os.environ.get('XLA_FLAGS', '')} {os.environ.get('LIBTPU_INIT_ARGS', '')}"
    flag_names = set(re.findall(r"--(\w+)", flags))
    return {k: v for k, v in OVERLAP.get(backend, {}).items() if k not in flag_names}


def cudnn_head_dim() -> int:
    """Return the largest head that cuDNN's flash attention takes on this GPU; 0 without cuDNN."""
    device = jax.local_devices()[0]
    if "cuda" not in device.client.platform_version:  # ROCm's backend is named "gpu", too
        return 0
    return _head_dim(int(device.compute_capability.split(".")[0]))


def _head_dim(generation: int) -> int:
    """Return the same of a generation of CUDA's GPUs, 0 for another maker's."""
    return 0 if generation < 8 else 128 if generation < 9 else 256
