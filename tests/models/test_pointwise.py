"""Norms and GELU equal their plain forms, and their written gradients those of autodiff."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models import pointwise

EPS = 1e-6


def plain_norm(x, scale_D, centre):
    x = x - x.mean(axis=-1, keepdims=True) if centre else x
    return x / jnp.sqrt(jnp.square(x).mean(axis=-1, keepdims=True) + EPS) * scale_D


def arrays(*shape):
    rng = np.random.default_rng(0)
    return tuple(
        jnp.asarray(rng.normal(0.3, 2.0, s), jnp.float32) for s in (shape, shape[-1:], shape)
    )


def value_and_gradients(function, arguments, g):
    value, pull = jax.vjp(function, *arguments)
    return value, *pull(g)


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 8), (2, 3, 4, 6)])
def test_norm_and_its_gradient(shape, centre):
    x, scale_D, g = arrays(*shape)
    ours = value_and_gradients(lambda x, s: pointwise.normalise(x, s, EPS, centre), (x, scale_D), g)
    plain = value_and_gradients(lambda x, s: plain_norm(x, s, centre), (x, scale_D), g)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_norm_of_bfloat16_is_computed_in_float32():
    x, scale_D, g = arrays(4, 64)
    low = [a.astype(jnp.bfloat16) for a in (x, scale_D, g)]
    ours = value_and_gradients(
        lambda x, s: pointwise.normalise(x, s, EPS, True), tuple(low[:2]), low[2]
    )
    high = [a.astype(jnp.float32) for a in low]
    plain = value_and_gradients(lambda x, s: plain_norm(x, s, True), tuple(high[:2]), high[2])
    for a, b in zip(ours, plain, strict=True):
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gelu_and_its_gradient(dtype):
    x = jnp.linspace(-6, 6, 601).astype(dtype)
    g = jnp.cos(x)
    for ours, plain in zip(
        value_and_gradients(pointwise.gelu, (x,), g),
        value_and_gradients(jax.nn.gelu, (x.astype(jnp.float32),), g.astype(jnp.float32)),
        strict=True,
    ):
        assert ours.dtype == dtype
        tolerance = 1e-6 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(ours.astype(jnp.float32), plain, rtol=tolerance, atol=tolerance)


def test_only_the_input_is_kept():
    """Of a row of GELU and norm the backward pass holds x, and two numbers per row."""
    x, scale_D, _ = arrays(32, 128)

    def kept(function, *arguments):
        _, pull = jax.vjp(function, *arguments)
        return sum(a.size for a in jax.tree.leaves(pull))

    assert kept(pointwise.gelu, x) == x.size
    norm = kept(lambda x, s: pointwise.normalise(x, s, EPS, True), x, scale_D)
    assert norm == x.size + scale_D.size + 2 * len(x)
