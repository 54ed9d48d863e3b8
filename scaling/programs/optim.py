"""The optimizers. Hyperparameters are traced values: one compiled step serves all.

Each optimizer is the step u of a parameter p <- p - lr (f u + weight_decay p), after the gradient's
global norm is clipped. f and a factor of the gradient are 1 but for muP and CompleteP, see
`models/parametrization.py`. m and v are moments of the gradient g:
  adamw      m / (sqrt(v) + eps), bias corrected (Loshchilov & Hutter 2019)
  lion       sign(beta1 m + (1 - beta1) g), m <- beta2 m + (1 - beta2) g (Chen et al. 2023)
  adafactor  max(1e-3, rms(p)) u / max(1, rms(u)), u = g / sqrt(v), v with decay 1 - t^-0.8 and for
             matrices of 128 or more rows and columns from their means (Shazeer & Stern 2018): lr is
             relative to the size of a layer's array
  muon       matrices: 0.2 sqrt(max(rows, columns)) NewtonSchulz(m), Nesterov's m with decay
             `momentum` (Jordan et al. 2024), scaled so that lr is what it would be for AdamW
             (Liu et al. 2025); all else: adamw
  sgd        m <- momentum m + g (heavy ball; Sutskever et al. 2013)
  adamh, muonh  matrices: |p| u / |u| with u of adamw or muon and Frobenius norms, after which p is
             scaled back to its norm, without weight decay (arXiv 2606.16899); all else: adamw
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from scaling.models.parameters import Matrix
from scaling.models.parametrization import STANDARD, Parametrization, step_exponent
from scaling.programs.schedules import Hyper
from scaling.utils.errors import UserError
from scaling.utils.registry import OPTIMIZERS

MUON_RMS = 0.2  # root mean square of a matrix's step, that of AdamW's (Liu et al. 2025)
FACTORED_FROM = 128  # rows and columns of a matrix whose second moment adafactor factors
TINY = 1e-30  # added to squares of gradients (Shazeer & Stern 2018)
STACKED = "blocks"  # checkpoints hold the state of stacked parameters under this name
Infos = Any  # a tree of ParamInfo in the shape of the parameters


def optimizer(
    optim, hyper: Hyper, infos: Infos, scales: Parametrization = STANDARD
) -> optax.GradientTransformation:
    """Return the step of `optim.name` with clipping and weight decay, before the learning rate.

    `optim` is the config's section; `hyper` may hold tracers.
    """
    clip, step = optax.clip_by_global_norm(optim.clip), _step(optim, infos)
    decay = optax.add_decayed_weights(hyper["weight_decay"], mask=decay_mask(infos, optim.name))
    if scales.name != "sp" and step_exponent(optim.name) is None:
        raise UserError(
            f"config.optim.name={optim.name!r} has no rule of width; choose "
            "config.model.parametrization='sp', or register it with width_exponent, see STEP in "
            "models/parametrization.py"
        )
    if scales.is_base:
        return optax.chain(clip, step, decay)
    weights = jax.tree.map(scales.norm_weight, infos)
    return optax.chain(
        _times(jax.tree.map(scales.gradient, infos)),
        _clip_by_weighted_norm(optim.clip, weights),
        step,
        _times(jax.tree.map(lambda info: scales.step(info, optim.name), infos)),
        decay,
    )


def _step(optim, infos: Infos) -> optax.GradientTransformation:
    entry = OPTIMIZERS[optim.name]
    step = entry(optim, infos)
    if not isinstance(step, optax.GradientTransformation):
        raise entry.error(f"returned {type(step).__name__}; return optax.GradientTransformation")
    return step


def decay_mask(infos: Infos, name: str) -> Any:
    """True at every parameter that weight decay applies to under the optimizer `name`."""
    fixed_norm = name in FIXED_NORM
    return jax.tree.map(lambda info: info.decay and not (fixed_norm and info.matrix), infos)


def _times(factors: Any) -> optax.GradientTransformation:
    """Multiply each array by its number in the tree `factors`."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda u, f: u if f == 1 else f * u, updates, factors)
    )


def _clip_by_weighted_norm(largest: float, weights: Any) -> optax.GradientTransformation:
    """Clip by sqrt(sum_i |weight_i g_i|^2), as `optax.clip_by_global_norm` does with weights 1."""

    def clip(updates, _):
        norm = optax.global_norm(jax.tree.map(lambda g, w: w * g, updates, weights))
        factor = largest / jnp.maximum(norm, largest)
        return jax.tree.map(lambda g: (factor * g).astype(g.dtype), updates)

    return optax.stateless(clip)


@OPTIMIZERS.register("adamw")
def _adam(optim, infos: Infos) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=optim.beta1, b2=optim.beta2, eps=optim.eps)


@OPTIMIZERS.register("lion")
def _lion(optim, infos: Infos) -> optax.GradientTransformation:
    return optax.scale_by_lion(b1=optim.beta1, b2=optim.beta2)


@OPTIMIZERS.register("adafactor")
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


@OPTIMIZERS.register("muon")
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


def _of_fixed_norm(steps: Callable) -> Callable:
    """Return an optimizer whose steps of matrices are as large as the matrices."""

    def fixed(optim, infos: Infos) -> optax.GradientTransformation:
        def resized(updates, params):
            def one(u, p, info):
                if not info.matrix:
                    return u
                axes = info.matrix.axes
                return u * (_norm(p, axes) / jnp.maximum(_norm(u, axes), TINY)).astype(u.dtype)

            return jax.tree.map(one, updates, params, infos)

        return optax.chain(steps(optim, infos), optax.stateless(resized))

    return fixed


def _norm(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Return the Frobenius norm of each matrix, float32, with its axes kept."""
    return jnp.sqrt(jnp.square(x.astype(jnp.float32)).sum(axes, keepdims=True))


@OPTIMIZERS.register("sgd")
def _sgd(optim, infos: Infos) -> optax.GradientTransformation:
    return optax.trace(decay=optim.momentum)


OPTIMIZERS.register("adamh")(_of_fixed_norm(_adam))
OPTIMIZERS.register("muonh")(_of_fixed_norm(_muon))
FIXED_NORM = ("adamh", "muonh")  # those that keep the Frobenius norms of matrices


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


def apply_updates(params, updates, lr: jax.Array, infos: Infos, name: str):
    """Return the parameters after a step of the optimizer `name`."""
    moved = jax.tree.map(lambda p, u: (p - lr * u).astype(p.dtype), params, updates)
    if name not in FIXED_NORM:
        return moved

    def restored(new, old, info):
        if not info.matrix:
            return new
        ratio = _norm(old, info.matrix.axes) / jnp.maximum(_norm(new, info.matrix.axes), TINY)
        return (new * ratio).astype(new.dtype)

    return jax.tree.map(restored, moved, params, infos)
