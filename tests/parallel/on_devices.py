"""Trains the same steps under several meshes of N simulated devices; run as `python -m
tests.parallel.on_devices N folder`.

Prints one JSON object: by strategy the digest of the initial parameters, the loss at each of STEPS
steps, bytes of state on the first device and altogether, bytes that initialisation needs beside its
result on a device, and for each parameter its size and its size on a device. With 8 devices a
checkpoint of the mesh 2 x 4 at half of the steps is left in `folder`; each other mesh goes on from
it.

Shapes: K steps of a dispatch, B sequences, T1 positions and one more.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

STEPS, K, B = 50, 5, 16
VALUES = {
    "sweep.kind": "none",
    "model.width": 32,
    "model.head_dim": 8,
    "model.mlp_width": 128,
    "data.seq_len": 32,
    "train.tokens": STEPS * B * 32,
    "train.batch_size": B,
    "train.steps_per_dispatch": K,
    "train.log_every": K,
    "eval.batch_size": B,
    "optim.lr": 0.01,
    "optim.warmup_fraction": 0.1,
}
STRATEGIES = {
    "dp": {},
    "fsdp 8": {"parallel.data": 1, "parallel.fsdp": -1},
    "tensor 4 x data 2": {"parallel.tensor": 4},
    "fsdp 4 x tensor 2": {"parallel.data": 1, "parallel.fsdp": -1, "parallel.tensor": 2},
    "fsdp 2 x sequence 4": {"parallel.data": 1, "parallel.fsdp": -1, "parallel.sequence": 4},
    "replica 2 x fsdp 4, accumulate 2": {
        "parallel.replica": 2,
        "parallel.data": 1,
        "parallel.fsdp": -1,
        "train.accumulate": 2,
    },
    "data 4 x tensor 2, accumulate 2": {"parallel.tensor": 2, "train.accumulate": 2},
    "remat dots, scan, fsdp 8": {
        "model.remat": "dots",
        "model.scan_layers": True,
        "parallel.data": 1,
        "parallel.fsdp": -1,
    },
}
ALONE = {
    "alone": {},
    "accumulate 4": {"train.accumulate": 4},
    "remat block": {"model.remat": "block"},
}
SAVED = {"parallel.data": 1, "parallel.fsdp": 2, "parallel.tensor": 4}
RESTORED = {
    "8 x 1": {"parallel.data": 1, "parallel.fsdp": 8},
    "4 x 2": {"parallel.data": 1, "parallel.fsdp": 4, "parallel.tensor": 2},
}


def tokens_KBT1(dispatch: int) -> np.ndarray:
    """Rows of one of a few patterns, so that there is something to learn."""
    rng = np.random.default_rng(dispatch)
    start = rng.integers(0, 256, (K, B, 1))
    return ((start + rng.integers(1, 4, (K, B, 1)) * np.arange(33)) % 256).astype(np.uint8)


def run(programs, hyper_R, state, first: int, last: int):
    """(state, losses) of steps [first, last)."""
    losses: list[float] = []
    zero_R = np.zeros(1, np.int32)
    for step in range(first, last, K):
        batch = programs.batch(tokens_KBT1(step // K)[None])
        state, metrics = programs.train(state, hyper_R, batch, zero_R + step, zero_R, zero_R + K)
        losses += np.asarray(metrics["loss"]).tolist()
    return state, losses


def main(devices: int, folder: Path) -> None:
    from scaling.utils import machine

    machine.start_jax(devices)
    import jax

    from scaling.config import load as config_lib
    from scaling.programs import schedules, train_step
    from scaling.training.checkpoint import Checkpoints

    base = config_lib.with_values(
        config_lib.load("configs/mini.py"), {**VALUES, "parallel.cpu_devices": devices}
    )
    hyper_R = {k: np.full(1, v, np.float32) for k, v in schedules.hyperparameters(base).items()}

    def programs_of(values):
        return train_step.programs(config_lib.with_values(base, values))

    def on_first(leaf) -> int:
        return next(s.data.size for s in leaf.addressable_shards if s.device == jax.devices()[0])

    found = {}
    for name, values in (ALONE if devices == 1 else STRATEGIES).items():
        programs = programs_of(values)
        init = programs.init.lower(0).compile()
        memory, state = init.memory_analysis(), init(0)
        leaves = jax.tree.leaves(state)
        digest = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in leaves)).hexdigest()
        by_path = jax.tree_util.tree_leaves_with_path(state["params"])
        params = {jax.tree_util.keystr(path): (x.size, on_first(x)) for path, x in by_path}
        here = sum(on_first(x) * x.dtype.itemsize for x in leaves)
        whole = sum(x.nbytes for x in leaves)
        _, losses = run(programs, hyper_R, state, 0, STEPS)
        found[name] = {
            "init": digest,
            "loss": losses,
            "bytes_of_device": here,
            "bytes": whole,
            "bytes_of_initialisation": memory.temp_size_in_bytes,
            "params": params,
        }

    half = STEPS // 2
    if devices > 1:
        programs = programs_of(SAVED)
        state, _ = run(programs, hyper_R, programs.init(0), 0, half)
        with Checkpoints(folder, keep=1) as checkpoints:
            checkpoints.save(half, state, {"elapsed": 0.0})
    for name, values in (RESTORED if devices > 1 else {"one device": {}}).items():
        programs = programs_of(values)
        with Checkpoints(folder, keep=1) as checkpoints:
            restored = checkpoints.restore(programs.state_like)
        assert restored is not None, f"no checkpoint in {folder}"
        for leaf, like in zip(
            jax.tree.leaves(restored[0]), jax.tree.leaves(programs.state_like), strict=True
        ):
            assert leaf.sharding == like.sharding, (leaf.sharding, like.sharding)
        _, losses = run(programs, hyper_R, restored[0], half, STEPS)
        found[f"restored on {name}"] = {"loss": losses}
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
