"""The optimizers and their schedules. Hyperparameters are traced values: one compiled step serves all.

Optimizers, each the step u of a parameter p <- p - lr (u + weight_decay p), after the gradient's global norm is
clipped, where m and v are moments of the gradient g:
  adamw      m / (sqrt(v) + eps), bias corrected (Loshchilov & Hutter 2019)
  lion       sign(beta1 m + (1 - beta1) g), m <- beta2 m + (1 - beta2) g (Chen et al. 2023)
  adafactor  max(1e-3, rms(p)) u / max(1, rms(u)), u = g / sqrt(v), v with decay 1 - t^-0.8 and for two axes of 128 or
             more from their row and column means (Shazeer & Stern 2018): lr is relative to a parameter's size
  muon       matrices: 0.2 sqrt(max(rows, columns)) NewtonSchulz(m), Nesterov's m with decay `momentum` (Jordan et al.
             2024), scaled so that lr is what it would be for AdamW (Liu et al. 2025); all else: adamw
  sgd        m <- momentum m + g (heavy ball; Sutskever et al. 2013)

Schedules are functions of the step s of a run of S steps with warm-up W and decay E (all traced):
  constant  lr min(1, (s + 1) / W)
  cosine    the same, times f + (1 - f) (1 + cos(pi (s - W) / (S - W))) / 2 after the warm-up
  wsd       the same, times a line from 1 to f over the last E steps (Hagele et al. 2024); none of it
            where checkpoints are merged instead (scaling/training/merge.py)
with f the final fraction. The last step of cosine and wsd ends at f, not one step before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict
from optax import contrib

from scaling.config import load as config_lib
from scaling.models.matrices import matrix_axes

Hyper = Mapping[str, Any]  # traced scalars, or floats outside a program
MUON_RMS = 0.2  # root mean square of a matrix's step, that of AdamW's (Liu et al. 2025)
NOT_DECAYED = ("scale", "nu_S", "theta_S")  # of norms, and an LRU's eigenvalues
STACK = "blocks"  # the parameters whose first axis is the layers


def hyperparameters(config: ConfigDict) -> dict[str, float]:
    """The traced hyperparameters of a run: what may change without a new program."""
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
    final = hyper["final_lr"]
    if schedule == "constant":
        shape = jnp.ones(())
    elif schedule == "cosine":
        span = jnp.maximum(hyper["total"] - hyper["warmup"], 1.0)
        t = jnp.clip((done - hyper["warmup"]) / span, 0.0, 1.0)
        shape = final + (1.0 - final) * 0.5 * (1.0 + jnp.cos(jnp.pi * t))
    elif schedule == "wsd":
        left = (hyper["total"] - done) / jnp.maximum(hyper["decay"], 1.0)
        falling = final + (1.0 - final) * jnp.clip(left, 0.0, 1.0)
        shape = jnp.where(hyper["decay"] > 0, falling, 1.0)
    else:
        raise ValueError(f"unknown schedule {schedule!r}")
    return hyper["lr"] * warm * shape


def optimizer(optim, hyper: Hyper) -> optax.GradientTransformation:
    """The step of `optim.name` with clipping of the global norm and weight decay, before the learning rate.

    `optim` is the config's section; `hyper` may hold tracers. Weight decay leaves NOT_DECAYED alone.
    """
    return optax.chain(
        optax.clip_by_global_norm(optim.clip),
        STEPS[optim.name](optim),
        optax.add_decayed_weights(hyper["weight_decay"], mask=decay_mask),
    )


def _adam(optim) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=optim.beta1, b2=optim.beta2, eps=optim.eps)


def _adafactor(optim) -> optax.GradientTransformation:
    return of_each_layer(
        optax.chain(
            optax.scale_by_factored_rms(),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(),
        )
    )


def _muon(optim) -> optax.GradientTransformation:
    return optax.partition(
        {
            "matrix": optax.chain(
                contrib.scale_by_muon(beta=optim.momentum, weight_dimension_numbers=matrices),
                optax.stateless(_like_adam),
            ),
            "other": _adam(optim),
        },
        lambda params: jax.tree.map(
            lambda dims: "other" if dims is None else "matrix",
            matrices(params),
            is_leaf=lambda x: x is None or isinstance(x, contrib.MuonDimensionNumbers),
        ),
    )


STEPS = {
    "adamw": _adam,
    "lion": lambda optim: optax.scale_by_lion(b1=optim.beta1, b2=optim.beta2),
    "adafactor": _adafactor,
    "muon": _muon,
    "sgd": lambda optim: optax.trace(decay=optim.momentum),
}


def matrices(params):
    """At every leaf the axes of its matrices, None where it is none."""

    def dims(path, _):
        axes = matrix_axes(path[-1].key)
        return axes and contrib.MuonDimensionNumbers(*axes)

    return jax.tree_util.tree_map_with_path(dims, params)


def _like_adam(updates, _):
    """Orthogonal steps, scaled to the size of AdamW's whatever the shape of their matrix."""

    def scaled(path, u):
        size = max(math.prod(u.shape[i] for i in axes) for axes in matrix_axes(path[-1].key) or ())
        return MUON_RMS * math.sqrt(size) * u

    return jax.tree_util.tree_map_with_path(scaled, updates)


def of_each_layer(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner`, which looks at whole arrays, on each layer of the stacked blocks by itself."""

    def parted(tree):
        return {k: v for k, v in tree.items() if k != STACK}, {STACK: tree[STACK]}

    def init(params):
        rest, stack = parted(params)
        return {"rest": inner.init(rest), STACK: jax.vmap(inner.init)(stack)}

    def update(updates, state, params=None):
        (rest, stack), (rest_p, stack_p) = parted(updates), parted(params)
        rest, rest_state = inner.update(rest, state["rest"], rest_p)
        stack, stack_state = jax.vmap(inner.update)(stack, state[STACK], stack_p)
        return {**rest, **stack}, {"rest": rest_state, STACK: stack_state}

    return optax.GradientTransformation(init, update)


def decay_mask(params) -> object:
    """True at every leaf that weight decay applies to."""

    def is_matrix(path, _):
        return path[-1].key not in NOT_DECAYED if hasattr(path[-1], "key") else True

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def apply_updates(params, updates, lr: jax.Array):
    return jax.tree.map(lambda p, u: (p - lr * u).astype(p.dtype), params, updates)
