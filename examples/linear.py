"""A line to zero: --config.plugins=linear --config.optim.schedule=linear."""

import jax.numpy as jnp

from scaling.utils.registry import SCHEDULES


@SCHEDULES.register("linear")
def linear(done, hyper):
    """Return the factor of the learning rate after warm-up. `done` counts this step."""
    left = (hyper["total"] - done) / jnp.maximum(hyper["total"] - hyper["warmup"], 1.0)
    return hyper["final_lr"] + (1.0 - hyper["final_lr"]) * jnp.clip(left, 0.0, 1.0)
