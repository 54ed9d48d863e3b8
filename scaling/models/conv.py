"""Depthwise convolution as a mixer: a convolutional network of the same blocks as the Transformer.

Shapes: B batch, T positions, D model width, J taps of the kernel along one axis.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import logical_axes, parametrization
from scaling.models.parameters import normal_param

Pads = tuple[tuple[int, int], ...]  # zeros before and after each axis of positions


class DepthwiseConv(nnx.Module):
    """One filter per channel, as in the isotropic ConvNeXt (Liu et al. 2022), without bias:

      causal sequence   y_t = sum_j w_j x_{t - (J - 1) + j}
      grid              y_(r, c) = sum_jl w_jl x_(r + j - J // 2, c + l - J // 2), x = 0 outside

    times channel by channel. Unlike in ConvNeXt, the convolution has its own norm and residual.
    """

    def __init__(self, model, grid: tuple[int, int] | None = None, *, rngs: nnx.Rngs):
        D, J, dtype = model.width, model.kernel, jnp.dtype(model.param_dtype)
        shape = (J,) if grid is None else (J, J)
        std = parametrization.of(model).writer_std(math.prod(shape))
        self.names = ("taps",) * len(shape) + ("embed",)
        # One filter per channel: no axis is summed over with another's channels.
        weight = normal_param(rngs, (*shape, D), std, self.names, dtype, matrix=None)
        if grid is None:
            self.w_JD = weight
        else:
            self.w_JJD = weight
        self.grid = grid
        self.pads: Pads = ((J - 1, 0),) if grid is None else ((J // 2, J // 2),) * 2

    def __call__(self, x_BTD):
        param = self.w_JD if self.grid is None else self.w_JJD
        weight = logical_axes.gathered(param[...].astype(x_BTD.dtype), *self.names)
        x_BTD = logical_axes.constrain(x_BTD, "batch", "keys", "width")
        if self.grid is None:
            return depthwise(x_BTD, weight, self.pads)
        B, _, D = x_BTD.shape
        return depthwise(x_BTD.reshape(B, *self.grid, D), weight, self.pads).reshape(x_BTD.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(x: jax.Array, w: jax.Array, pads: Pads) -> jax.Array:
    """Depthwise convolution of `x_B...D` with `w_J...D` over one axis of positions or two.

    A sum of shifted products in float32, since XLA:CPU takes 50 times as long for
    `lax.conv_general_dilated` of as many groups as channels. Its gradient has the same form, while
    the compiler's is a sum of padded copies.
    """
    total = sum(
        shifted.astype(jnp.float32) * w[tap].astype(jnp.float32)
        for tap, shifted in _shifts(x, w.shape[:-1], pads)
    )
    return jnp.asarray(total).astype(x.dtype)


def _shifts(
    x: jax.Array, taps: Sequence[int], pads: Pads
) -> Iterator[tuple[tuple[int, ...], jax.Array]]:
    """(tap, the shifted `x` that it multiplies) for each tap of the kernel."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    for tap in itertools.product(*map(range, taps)):
        window = tuple(slice(j, j + n) for j, n in zip(tap, x.shape[1:-1], strict=True))
        yield tap, padded[(slice(None), *window)]


def _depthwise_forward(x, w, pads):
    return depthwise(x, w, pads), (x, w)


def _depthwise_backward(pads, saved, g):
    """dx is the convolution of g with the reversed kernel, dw_j the sum of g and the shifted x."""
    x, w = saved
    positions = tuple(range(len(pads)))
    dx = depthwise(g, jnp.flip(w, positions), tuple((after, before) for before, after in pads))
    g32, summed = g.astype(jnp.float32), tuple(range(g.ndim - 1))
    dw = [(g32 * a.astype(jnp.float32)).sum(summed) for _, a in _shifts(x, w.shape[:-1], pads)]
    return dx, jnp.stack(dw).reshape(w.shape).astype(w.dtype)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)
