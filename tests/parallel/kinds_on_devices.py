"""Trains every kind of model under meshes of 8 simulated devices; run as `python -m
tests.parallel.kinds_on_devices`.

Prints one JSON object: by kind and mesh the loss at each step, and for each parameter the parts it
lies in.
"""

from __future__ import annotations

import json

import numpy as np

from tests.parallel import on_devices

STEPS = 10
KINDS = {
    "mlp": {"model.kind": "mlp"},
    "cnn": {"model.kind": "cnn"},
    "lstm": {"model.kind": "lstm"},
    "lru": {"model.kind": "lru"},
    "grouped": {"model.kv_heads": 2, "model.bias": "all", "model.norm": "layernorm"},
    "experts": {"model.experts": 4, "model.mlp": "swiglu"},
}
MESHES = {
    "fsdp, sequence and tensor": {
        "parallel.data": 1,
        "parallel.fsdp": -1,
        "parallel.sequence": 2,
        "parallel.tensor": 2,
    },
    "experts over tensor": {"parallel.tensor": 4, "parallel.rules": (("experts", "tensor"),)},
}


def trained(values) -> tuple[list[float], dict[str, int]]:
    """(losses, parts of each parameter) of STEPS steps on all devices."""
    import jax

    from scaling.config import load as config_lib
    from scaling.programs import schedules, train_step

    config = config_lib.with_values(
        config_lib.load("configs/mini.py"),
        {
            **on_devices.VALUES,
            "model.depth": 1,
            "parallel.cpu_devices": jax.device_count(),
            **values,
        },
    )
    hyper_R = {k: np.full(1, v, np.float32) for k, v in schedules.hyperparameters(config).items()}
    programs = train_step.programs(config)
    _, losses = on_devices.run(programs, hyper_R, programs.init(0), 0, STEPS)
    leaves = jax.tree_util.tree_leaves_with_path(programs.state_like["params"])
    parts = {
        jax.tree_util.keystr(path): x.size // np.prod(x.sharding.shard_shape(x.shape)).item()
        for path, x in leaves
    }
    return losses, parts


def main() -> None:
    from scaling.utils import machine

    machine.start_jax(8)
    found = {}
    for kind, values in KINDS.items():
        for mesh, parallel in MESHES.items():
            if kind == "experts" or "experts" not in mesh:
                found[f"{kind}, {mesh}"] = trained({**values, **parallel})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
