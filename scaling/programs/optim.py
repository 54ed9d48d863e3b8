"""The optimizers and their schedules. Hyperparameters are traced values: one compiled step serves
all.

Each optimizer is the step u of a parameter p <- p - lr (u + weight_decay p), after the gradient's
global norm is clipped. m and v are moments of the gradient g:
  adamw      m / (sqrt(v) + eps), bias corrected (Loshchilov & Hutter 2019)
  lion       sign(beta1 m + (1 - beta1) g), m <- beta2 m + (1 - beta2) g (Chen et al. 2023)
  adafactor  max(1e-3, rms(p)) u / max(1, rms(u)), u = g / sqrt(v), v with decay 1 - t^-0.8 and for
             matrices of 128 or more rows and columns from their means (Shazeer & Stern 2018): lr is
             relative to the size of a layer's array
  muon       matrices: 0.2 sqrt(max(rows, columns)) NewtonSchulz(m), Nesterov's m with decay
             `momentum` (Jordan et al. 2024), scaled so that lr is what it would be for AdamW
             (Liu et al. 2025); all else: adamw
  sgd        m <- momentum m + g (heavy ball; Sutskever et al. 2013)

Schedules are functions of the step s of a run of S steps with warm-up W and decay E (all traced):
  constant  lr min(1, (s + 1) / W)
  cosine    the same, times f + (1 - f) (1 + cos(pi (s - W) / (S - W))) / 2 after the warm-up
  wsd       the same, times a line from 1 to f over the last E steps (Hagele et al. 2024); without
            that line if checkpoints are merged instead (scaling/training/merge.py)
with f the final fraction. The last step of cosine and wsd ends at f, not one step before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from optax import contrib

from scaling.config import load as config_lib
from scaling.models.parameters import Matrix

Hyper = Mapping[str, Any]  # traced scalars, or floats outside a program
MUON_RMS = 0.2  # root mean square of a matrix's step, that of AdamW's (Liu et al. 2025)
FACTORED_FROM = 128  # rows and columns of a matrix whose second moment adafactor factors
TINY = 1e-30  # added to squares of gradients (Shazeer & Stern 2018)
STACKED = "blocks"  # checkpoints hold the state of stacked parameters under this name
Infos = Any  # a tree of ParamInfo in the shape of the parameters


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


def optimizer(optim, hyper: Hyper, infos: Infos) -> optax.GradientTransformation:
    """Return the step of `optim.name` with clipping and weight decay, before the learning rate.

    `optim` is the config's section; `hyper` may hold tracers. Clipping is of the gradient's global
    norm.
    """
    return optax.chain(
        optax.clip_by_global_norm(optim.clip),
        STEPS[optim.name](optim, infos),
        optax.add_decayed_weights(hyper["weight_decay"], mask=decay_mask(infos)),
    )


def decay_mask(infos: Infos) -> Any:
    """True at every parameter that weight decay applies to."""
    return jax.tree.map(lambda info: info.decay, infos)


def _adam(optim, infos: Infos) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=optim.beta1, b2=optim.beta2, eps=optim.eps)


def _lion(optim, infos: Infos) -> optax.GradientTransformation:
    return optax.scale_by_lion(b1=optim.beta1, b2=optim.beta2)


def _adafactor(optim, infos: Infos) -> optax.GradientTransformation:
    return of_each_layer(
        optax.chain(
            _scale_by_factored_rms(infos),
            optax.clip_by_block_rms(1.0),
            optax.scale_by_param_block_rms(),
        ),
        infos,
    )


def _scale_by_factored_rms(infos: Infos) -> optax.GradientTransformation:
    """Return `optax.scale_by_factored_rms` for arrays whose matrices have any axes.

    optax factors the two longest axes, which miss a matrix of many short heads and may stack
    experts. Arrays that are no matrix are factored along their last two axes.
    """
    matrices = _matrices(infos)

    def mapped(function, *trees):
        """Return trees of the results of `function(matrix or None, leaves)`, one per result."""
        tree: Any
        leaves, tree = jax.tree.flatten_with_path(trees[0])
        others = [tree.flatten_up_to(other) for other in trees[1:]]
        rows = [
            function(matrices.get(path), leaf, *rest)
            for (path, leaf), *rest in zip(leaves, *others, strict=True)
        ]
        return [tree.unflatten(column) for column in zip(*rows, strict=True)]

    def start(matrix, p):
        p_RC, none = _as_matrices(p, matrix), jnp.zeros(1, p.dtype)
        if not (sides := _sides(p_RC.shape)):
            return none, none, jnp.zeros_like(p)
        row, column = (jnp.zeros_like(p_RC.sum(axis)) for axis in sides)
        return row, column, none

    def init(params):
        return optax.FactoredState(jnp.zeros([], jnp.int32), *mapped(start, params))

    def update(updates, state, params):
        decay = 1 - jnp.asarray(state.count + 1, jnp.float32) ** -0.8

        def moved(mean, new):
            return (decay * mean + (1 - decay) * new).astype(new.dtype)

        def step(matrix, g, row, column, v):
            g_RC = _as_matrices(g, matrix)
            if not (sides := _sides(g_RC.shape)):
                v = moved(v, jnp.square(g) + TINY)
                return g * v**-0.5, row, column, v
            long, short = sides
            square_RC = jnp.square(g_RC) + TINY
            row, column = moved(row, square_RC.mean(long)), moved(column, square_RC.mean(short))
            share = (row / row.mean(-1, keepdims=True)) ** -0.5
            u_RC = g_RC * jnp.expand_dims(share, long) * jnp.expand_dims(column**-0.5, short)
            return _from_matrices(u_RC, matrix, g.shape), row, column, v

        updates, *moments = mapped(step, updates, state.v_row, state.v_col, state.v)
        return updates, optax.FactoredState(optax.safe_increment(state.count), *moments)

    return optax.GradientTransformation(init, update)


def _matrices(infos: Infos) -> dict[Any, Matrix]:
    """Return path -> matrix of the parameters that are matrices."""
    pairs = jax.tree_util.tree_leaves_with_path(infos)
    return {path: info.matrix for path, info in pairs if info.matrix}


def _sides(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """(longer, shorter axis) of matrices `[..., R, C]` to be factored; None to leave them whole."""
    if len(shape) < 2 or min(shape[-2:]) < FACTORED_FROM:
        return None
    return (-2, -1) if shape[-2] > shape[-1] else (-1, -2)


def _order(matrix: Matrix, ndim: int) -> tuple[int, ...]:
    """The axes of an array: those that stack matrices, then rows, then columns."""
    last = tuple(ndim + axis for axis in (*matrix.summed, *matrix.result))
    return (*(axis for axis in range(ndim) if axis not in last), *last)


def _as_matrices(x: jax.Array, matrix: Matrix | None) -> jax.Array:
    """Return an array as its matrices `[..., R, C]`; one that is no matrix as it is."""
    if matrix is None:
        return x
    x = x.transpose(_order(matrix, x.ndim))
    stacks = x.ndim - len(matrix.summed) - len(matrix.result)
    rows = math.prod(x.shape[stacks : stacks + len(matrix.summed)])
    return x.reshape(*x.shape[:stacks], rows, -1)


def _from_matrices(x: jax.Array, matrix: Matrix | None, shape: tuple[int, ...]) -> jax.Array:
    """Invert `_as_matrices` for an array of this shape."""
    if matrix is None:
        return x
    order = _order(matrix, len(shape))
    return x.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


def _muon(optim, infos: Infos) -> optax.GradientTransformation:
    matrices = _matrices(infos)

    def dimensions(params):
        """Return the axes of each matrix. Of `params` optax has masked all that is no matrix."""
        return jax.tree_util.tree_map_with_path(
            lambda path, _: contrib.MuonDimensionNumbers(*matrices[path]), params
        )

    def as_large_as_adam(updates, _):
        """Scale orthogonal steps to the size of AdamW's, whatever the shape of their matrix."""
        return jax.tree_util.tree_map_with_path(
            lambda path, u: MUON_RMS * math.sqrt(_longer_side(u.shape, matrices[path])) * u, updates
        )

    return optax.partition(
        {
            "matrix": optax.chain(
                contrib.scale_by_muon(beta=optim.momentum, weight_dimension_numbers=dimensions),
                optax.stateless(as_large_as_adam),
            ),
            "other": _adam(optim, infos),
        },
        jax.tree.map(lambda info: "matrix" if info.matrix else "other", infos),
    )


def _longer_side(shape: tuple[int, ...], matrix: Matrix) -> int:
    """Return the rows or columns of each matrix in an array of this shape, whichever are more."""
    return max(math.prod(shape[i] for i in axes) for axes in matrix)


def _sgd(optim, infos: Infos) -> optax.GradientTransformation:
    return optax.trace(decay=optim.momentum)


STEPS = {"adamw": _adam, "lion": _lion, "adafactor": _adafactor, "muon": _muon, "sgd": _sgd}


def of_each_layer(
    inner: optax.GradientTransformation, infos: Infos
) -> optax.GradientTransformation:
    """Apply `inner`, which looks at whole arrays, to each layer of stacked blocks separately."""
    stacks = {k for k, v in infos.items() if all(info.stacked for info in jax.tree.leaves(v))}

    def split(tree):
        """(the stacked part, the rest)"""
        stacked = {k: v for k, v in tree.items() if k in stacks}
        return stacked, {k: v for k, v in tree.items() if k not in stacks}

    def init(params):
        stacked, rest = split(params)
        return {"rest": inner.init(rest), STACKED: jax.vmap(inner.init)(stacked)}

    def update(updates, state, params):
        (stacked, rest), (stacked_p, rest_p) = split(updates), split(params)
        rest, rest_state = inner.update(rest, state["rest"], rest_p)
        stacked, stacked_state = jax.vmap(inner.update)(stacked, state[STACKED], stacked_p)
        return {**rest, **stacked}, {"rest": rest_state, STACKED: stacked_state}

    return optax.GradientTransformation(init, update)


def apply_updates(params, updates, lr: jax.Array):
    return jax.tree.map(lambda p, u: (p - lr * u).astype(p.dtype), params, updates)
