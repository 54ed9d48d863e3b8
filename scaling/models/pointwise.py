"""Norms and GELU with their gradients written out, on every backend.

Autodiff keeps several arrays of the size of the activations for the backward pass and reads them
again. Here the input alone is kept, and the rest is computed again in the same pass.

Shapes: D the normalised axis.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

GELU_SLOPE, GELU_CUBIC = math.sqrt(2 / math.pi), 0.044715


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def normalise(x: jax.Array, scale_D: jax.Array, eps: float, centre: bool) -> jax.Array:
    """Divide `x_..D` by its root mean square along D, in float32, and multiply it by the scale.

    With `centre` its mean is subtracted first. The backward pass keeps x and two numbers per row,
    and takes its sums in one pass.
    """
    return _normalise_forward(x, scale_D, eps, centre)[0]


def _normalise_forward(x, scale_D, eps, centre):
    x32 = x.astype(jnp.float32)
    mean = x32.mean(axis=-1, keepdims=True) if centre else None
    x32 = x32 - mean if centre else x32
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + eps)
    y = x32 * inverse * scale_D.astype(jnp.float32)
    return y.astype(x.dtype), (x, scale_D, mean, inverse)


def _normalise_backward(eps, centre, saved, g):
    """With h = (x - mean) / rms: dx = (gs - mean(gs) - h mean(gs h)) / rms, ds = sum(g h)."""
    x, scale_D, mean, inverse = saved
    x32, g32 = x.astype(jnp.float32), g.astype(jnp.float32)
    h = (x32 - mean if centre else x32) * inverse
    gs = g32 * scale_D.astype(jnp.float32)
    dx = gs - h * (gs * h).mean(axis=-1, keepdims=True)
    if centre:
        dx = dx - gs.mean(axis=-1, keepdims=True)
    ds_D = (g32 * h).sum(axis=tuple(range(x.ndim - 1)))
    return (dx * inverse).astype(x.dtype), ds_D.astype(scale_D.dtype)


normalise.defvjp(_normalise_forward, _normalise_backward)


@jax.custom_vjp
def gelu(x: jax.Array) -> jax.Array:
    """GELU by its tanh form (Hendrycks & Gimpel 2016); for its gradient x alone is kept."""
    return 0.5 * x * (1 + _gelu_tanh(x))


def _gelu_tanh(x):
    return jnp.tanh(GELU_SLOPE * (x + GELU_CUBIC * x**3))


def _gelu_backward(x, g):
    tanh = _gelu_tanh(x)
    slope = GELU_SLOPE * (1 + 3 * GELU_CUBIC * x**2)
    return (g * (0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * slope),)


gelu.defvjp(lambda x: (gelu(x), x), _gelu_backward)
