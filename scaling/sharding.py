"""Meshes, and the rules from a parameter's logical axes to mesh axes. Models only name their axes.

The mesh has three axes: "data" splits the batch, "fsdp" splits the batch and, between uses, every
parameter along its model-width dimension, "tensor" splits heads, MLP and vocabulary.
"""

from __future__ import annotations

import math

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from scaling.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
RULES: dict[str, str | None] = {
    "embed": "fsdp",
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "head_dim": None,
    "qkv": None,
    "gate": None,
    "positions": None,
    "layers": None,
}


def configure_cpu_devices(count: int) -> None:
    """Present a CPU host as `count` devices; must run before jax first looks at its devices."""
    jax.config.update("jax_num_cpu_devices", count)


def make_mesh(parallel, devices=None) -> Mesh:
    """The mesh described by the config's `parallel` section over `devices` (default: all).

    Raises UserError where the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    fixed = parallel.fsdp * parallel.tensor
    data = parallel.data if parallel.data > 0 else len(devices) // fixed
    sizes = (data, parallel.fsdp, parallel.tensor)
    if math.prod(sizes) != len(devices):
        raise UserError(
            f"config.parallel: data={parallel.data} x fsdp={parallel.fsdp} x "
            f"tensor={parallel.tensor} does not make the {len(devices)} devices there are"
        )
    grid = np.asarray(devices).reshape(sizes)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def check_divides(config, mesh: Mesh) -> None:
    """Raises UserError naming the first dimension that a mesh axis does not divide."""
    m = config.model
    shards = math.prod(mesh.shape[a] for a in BATCH_AXES)
    heads = m.width // m.head_dim
    for key, value, parts in (
        ("train.batch_size", config.train.batch_size, shards),
        ("eval.batch_size", config.eval.batch_size, shards),
        ("model.width", m.width, mesh.shape["fsdp"]),
        ("model.width / head_dim", heads, mesh.shape["tensor"]),
        ("model.mlp_width", m.mlp_width, mesh.shape["tensor"]),
        ("data.vocab_size", config.data.vocab_size, mesh.shape["tensor"]),
    ):
        if value % parts:
            raise UserError(
                f"config.{key}={value} does not divide over {parts} shards of config.parallel"
            )


def param_shardings(model_state: nnx.State, mesh: Mesh):
    """A tree of shardings in the shape of `model_state`, from the axes its variables name."""

    def of(variable: nnx.Variable) -> NamedSharding:
        axes = variable.get_metadata("out_sharding")
        return NamedSharding(mesh, PartitionSpec(*(RULES[a] for a in axes)))

    return jax.tree.map(of, model_state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """(k, n): this process holds the k-th of n equal parts of a batch's rows.

    Processes that "tensor" spans hold the same rows. Raises UserError where a process's rows lie apart.
    """
    shards = math.prod(mesh.shape[a] for a in BATCH_AXES)
    spans = batch_sharding(mesh).addressable_devices_indices_map((shards,)).values()
    rows = sorted({range(shards)[span[0]].start for span in spans if span})
    if rows != list(range(rows[0], rows[0] + len(rows))) or rows[0] % len(rows):
        raise UserError(
            f"config.parallel: data={mesh.shape['data']} x fsdp={mesh.shape['fsdp']} x tensor="
            f"{mesh.shape['tensor']} scatters the rows of one process; let tensor divide its devices"
        )
    return rows[0] // len(rows), shards // len(rows)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Sharding of [..., B, T] with `leading` unsharded axes in front of B."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, BATCH_AXES))
