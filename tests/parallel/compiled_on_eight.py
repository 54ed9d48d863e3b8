"""Compile programs for 8 simulated devices and print their facts as JSON; see conftest.py."""

from __future__ import annotations

import dataclasses
import json
import sys

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from scaling.config import load as config_lib
from scaling.programs import ahead_of_time, memory, train_step

TINY = {
    "sweep.kind": "none",
    "model.depth": 2,
    "model.width": 64,
    "model.head_dim": 8,
    "model.mlp_width": 128,
    "model.mlp": "relu2",
    "model.tied_head": False,
    "model.matmul": "plain",
    "model.attention": "plain",
    "data.seq_len": 48,  # no product of B, T and a width is that of a weight
    "train.batch_size": 8,
    "eval.batch_size": 8,
}
MESHES = {
    "dp": {},
    "dp, accumulate 2": {"train.batch_size": 16, "train.accumulate": 2},
    "fsdp": {"parallel.fsdp": 8},
    "fsdp, remat": {
        "parallel.fsdp": 8, "model.remat": "block", "model.scan_layers": True, "model.depth": 3,
    },
    "tensor": {"parallel.tensor": 4},
    "fsdp x sequence": {"parallel.fsdp": 2, "parallel.sequence": 4},
    "fsdp x tensor": {"parallel.fsdp": 4, "parallel.tensor": 2},
}  # fmt: skip


def config_of(name: str):
    return config_lib.with_values(config_lib.load("configs/mini.py"), TINY | MESHES[name])


def every_kind():
    """A program's text: one collective of each kind, in a scan of 3 in a loop of unknown length."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    def turn(x, _):
        x = jax.lax.all_gather(x, "b", tiled=True)  # [8, 16]
        x = jax.lax.psum_scatter(x, "b", tiled=True)  # [2, 16]
        x = jax.lax.all_to_all(x, "a", 0, 0, tiled=True)
        return jax.lax.ppermute(x, "b", [(i, (i + 1) % 4) for i in range(4)]), None

    def body(i, x):
        return jax.lax.scan(turn, x, length=3)[0] + jax.lax.psum(x, "a")

    def program(x, n):
        return jax.lax.fori_loop(0, n, body, x)

    spec = PartitionSpec(("a", "b"))
    whole = jax.shard_map(
        program, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec, check_vma=False
    )
    shapes = jax.ShapeDtypeStruct((16, 16), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    return jax.jit(whole).lower(*shapes).compile().as_text()


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    found = {}
    for name in MESHES:
        config = config_of(name)
        state = memory.shard_bytes(train_step.programs(config).state_like)
        found[name] = dataclasses.asdict(ahead_of_time.compiled(config)) | {"state": state}
    print(json.dumps(found | {"every kind": every_kind()}))


if __name__ == "__main__":
    sys.exit(main())
