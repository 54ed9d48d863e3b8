"""What "auto" stands for on the backend at hand: attention, matrix products, overlap of network and compute.

docs/accelerators.md says what each choice does, and which were only lowered and never run.
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

# Options of the compiler that let collectives run beside computation, by backend, where "auto" differs from XLA's
# own default. They belong to one program and no other, unlike XLA_FLAGS.
OVERLAP: dict[str, dict[str, bool]] = {
    # schedules collectives early and their use late; off by default since it takes memory and time to compile.
    # NVIDIA's JAX images turn it on (docs.nvidia.com/jax-toolbox/environment-variables), XLA does so at its
    # optimisation level O1 (openxla.org/xla/gpu_optimization_levels)
    "gpu": {"xla_gpu_enable_latency_hiding_scheduler": True},
    # nothing: libtpu's scheduler hides latency by default, and of its flags for asynchronous collectives
    # openxla.org/xla/flags_guidance suggests the defaults
    "tpu": {},
}


# How the runs of a packed program share a device: "vmap" batches their products, "map" trains them
# one after another inside one program. On two CPU cores batched products (docs/running_sweeps.md)
# are slower than what they save, on accelerators small products leave most of the chip idle.
RUN_AXIS = {"cpu": "map"}

# Evaluation steps that may be queued, elsewhere 2. On CPUs steps do not wait for each other, and a collective of one may
# hold the thread that its other half needs while that of the next step runs (a deadlock of jax 0.10 on two busy cores).
EVALUATIONS_IN_FLIGHT = {"cpu": 1}

# Options for programs whose machine code matters little, since it runs once or never: compiled in a quarter of the time.
QUICK = {"cpu": {"xla_backend_optimization_level": 0}}


@dataclass(frozen=True)
class Choice:
    """What a program of one config is made of."""

    attention: str
    matmul: str
    options: dict[str, bool]  # of its compiler

    def __str__(self) -> str:
        hidden = "latency hiding on" if self.options else "latency hiding as XLA has it"
        return f"attention {self.attention}, matrix products {self.matmul}, {hidden}"


def choose(c: ConfigDict, mesh: Mapping[str, int]) -> Choice:
    """The choice for `c` on this process's backend, `mesh` the sizes of its mesh's axes.

    Raises UserError where the config asks for what the backend or the mesh cannot do.
    """
    backend, m = jax.default_backend(), c.model
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
            cudnn_head_dim=cudnn_head_dim() if backend == "gpu" else 0,
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
    """Compiler options of a program that runs once, as initialisation does, or is only looked at."""
    return QUICK.get(jax.default_backend())


def overlap(choice: str, backend: str, n_devices: int) -> dict[str, bool]:
    """Resolve config.parallel.latency_hiding; one device has nothing to hide.

    What $XLA_FLAGS or $LIBTPU_INIT_ARGS name is left to them.
    """
    if choice == "none" or n_devices == 1:
        return {}
    said = f"{os.environ.get('XLA_FLAGS', '')} {os.environ.get('LIBTPU_INIT_ARGS', '')}"
    named = set(re.findall(r"--(\w+)", said))
    return {k: v for k, v in OVERLAP.get(backend, {}).items() if k not in named}


def cudnn_head_dim() -> int:
    """The largest head that cuDNN's flash attention takes on this GPU; 0 where it has none."""
    device = jax.local_devices()[0]
    if "cuda" not in device.client.platform_version:  # ROCm calls itself "gpu", too
        return 0
    generation = int(device.compute_capability.split(".")[0])
    return 0 if generation < 8 else 128 if generation < 9 else 256
