"""The hyperparameters of a run that programs take as traced values, and the schedules of the
learning rate.

Schedules are functions of the step s of a run of S steps with warm-up W and decay E (all traced):
  constant  lr min(1, (s + 1) / W)
  cosine    the same, times f + (1 - f) (1 + cos(pi (s - W) / (S - W))) / 2 after the warm-up
  wsd       the same, times a line from 1 to f over the last E steps (Hagele et al. 2024); without
            that line if checkpoints are merged instead (scaling/training/merge.py)
with f the final fraction. The last step of cosine and wsd ends at f, not one step before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.utils.registry import SCHEDULES

Hyper = Mapping[str, Any]  # traced scalars, or floats outside a program


def hyperparameters(config: ConfigDict) -> dict[str, float]:
    """Return the traced hyperparameters of a run, which may change without a new program."""
    steps = config_lib.schedule_steps(config)
    if config.optim.cooldown == "merge":  # the decay would begin after the last step
        steps |= {"total": steps["total"] + 1, "decay": 1}
    return {
        "lr": config.optim.lr,
        "weight_decay": config.optim.weight_decay,
        "final_lr": config.optim.final_lr,
        "warmup": float(steps["warmup"]),
        "total": float(steps["total"]),
        "decay": float(steps["decay"]),
    }


def learning_rate(schedule: str, step: jax.Array, hyper: Hyper) -> jax.Array:
    """Learning rate of optimizer step `step` (0 is the first)."""
    done = jnp.asarray(step, jnp.float32) + 1.0
    warm = jnp.minimum(1.0, done / jnp.maximum(hyper["warmup"], 1.0))
    return hyper["lr"] * warm * SCHEDULES[schedule](done, hyper)


@SCHEDULES.register("constant")
def _constant(done: jax.Array, hyper: Hyper) -> jax.Array:
    return jnp.ones(())


@SCHEDULES.register("cosine")
def _cosine(done: jax.Array, hyper: Hyper) -> jax.Array:
    span, final = jnp.maximum(hyper["total"] - hyper["warmup"], 1.0), hyper["final_lr"]
    t = jnp.clip((done - hyper["warmup"]) / span, 0.0, 1.0)
    return final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * t))


@SCHEDULES.register("wsd")
def _wsd(done: jax.Array, hyper: Hyper) -> jax.Array:
    left, final = (hyper["total"] - done) / jnp.maximum(hyper["decay"], 1.0), hyper["final_lr"]
    falling = final + (1.0 - final) * jnp.clip(left, 0.0, 1.0)
    return jnp.where(hyper["decay"] > 0, falling, 1.0)
