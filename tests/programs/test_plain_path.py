"""The fast paths train what the plain ones train: 80 steps of the whole program."""

from __future__ import annotations

import json

import numpy as np

from scaling.config import load as config_lib
from scaling.training import loop
from scaling.utils import files
from tests.common import run_python

STEPS, BATCH, T = 80, 8, 64
VALUES = {
    "model.mlp": "gelu",
    "model.norm": "layernorm",
    "data.seq_len": T,  # two chunks of queries
    "train.batch_size": BATCH,
    "train.tokens": STEPS * BATCH * T,
    "train.steps_per_dispatch": 8,
    "train.log_every": 1,
    "checkpoint.every_tokens": 10**9,
}
# one device, one step per dispatch, products, attention, norms and GELU as jax has them and
# differentiates them
PLAIN = """
import json, sys
from pathlib import Path
from scaling.config import load as config_lib
from scaling.models import pointwise
from scaling.training import loop
from scaling.utils import machine

machine.start_jax(1)
import jax

folder, values = sys.argv[1], json.loads(sys.argv[2])
pointwise.normalise = lambda *args: pointwise._normalise_forward(*args)[0]
pointwise.gelu = jax.nn.gelu
base = config_lib.load("configs/mini.py", [f"--config.{k}={v}" for k, v in values.items()])
loop.train_run(base, Path(folder))
"""


def losses(folder) -> np.ndarray:
    return np.array([row["loss"] for row in files.read_lines(folder / "metrics.jsonl", "step")])


def test_loss_curve_of_the_fast_paths_is_that_of_the_plain_ones(tmp_path, config):
    values = {"sweep.kind": "none", "optim.lr": config.optim.lr, "eval.tokens": 2048, **VALUES}
    base = config_lib.load("configs/mini.py", [f"--config.{k}={v}" for k, v in values.items()])
    loop.train_run(base, tmp_path / "fast")
    plain = {
        "model.matmul": "plain",
        "model.attention": "plain",
        "parallel.cpu_devices": 1,
        "train.steps_per_dispatch": 1,
    }
    done = run_python(PLAIN, str(tmp_path / "plain"), json.dumps({**values, **plain}))
    assert done.returncode == 0, done.stderr
    ours, theirs = losses(tmp_path / "fast"), losses(tmp_path / "plain")
    assert len(ours) == len(theirs) == STEPS and ours[-1] < 0.9 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
