"""The fast forms against the plain ones, forward and backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models import ops


def normal(seed, shape, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape).astype(dtype)


@pytest.mark.parametrize("F", [11, 3])  # wider and narrower than D = 7
@pytest.mark.parametrize("shape", [(3, 5, 7), (4, 7), (2, 3, 5, 7)])
def test_flat_matmul_and_its_gradient(shape, F):
    x, w_DF = normal(0, shape), normal(1, (7, F))

    def total(how):
        return lambda x, w: jnp.sum(jnp.sin(ops.matmul(x, w, how)))

    np.testing.assert_allclose(ops.matmul(x, w_DF, "flat"), x @ w_DF, rtol=1e-6, atol=1e-6)
    plain = jax.grad(total("plain"), argnums=(0, 1))(x, w_DF)
    flat = jax.grad(total("flat"), argnums=(0, 1))(x, w_DF)
    for a, b in zip(plain, flat, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("T", [1, 32, 33, 200])
def test_chunked_attention_and_its_gradient(T):
    q, k, v = (normal(i, (2, T, 3, 8)) for i in range(3))

    def total(how):
        return lambda *qkv: jnp.sum(jnp.sin(ops.attention(*qkv, how)))

    plain, chunked = (ops.attention(q, k, v, how) for how in ("plain", "chunked"))
    np.testing.assert_allclose(plain, chunked, rtol=2e-5, atol=2e-5)
    ours = jax.grad(total("chunked"), argnums=(0, 1, 2))(q, k, v)
    theirs = jax.grad(total("plain"), argnums=(0, 1, 2))(q, k, v)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("how", ["plain", "chunked"])
def test_groups_of_query_heads_share_a_key_value_head(how, causal):
    q, k, v = (normal(i, (2, 40, H, 8)) for i, H in enumerate((6, 2, 2)))

    def total(attention):
        value = lambda *qkv: jnp.sum(jnp.sin(attention(*qkv)))  # noqa: E731
        return jax.jit(jax.value_and_grad(value, argnums=(0, 1, 2)))

    def repeated(q, k, v):
        return ops.attention(q, *(jnp.repeat(a, 3, axis=2) for a in (k, v)), "plain", causal)

    ours = total(lambda *qkv: ops.attention(*qkv, how, causal))(q, k, v)
    for a, b in zip(*map(jax.tree.leaves, (ours, total(repeated)(q, k, v))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_chunked_attention_in_bfloat16_is_as_near_as_plain():
    q, k, v, g = (normal(i, (2, 96, 3, 8)) for i in range(4))

    def gradients(how, dtype):
        at = [a.astype(dtype) for a in (q, k, v)]
        out, pull = jax.vjp(lambda *qkv: ops.attention(*qkv, how), *at)
        return [np.asarray(a, np.float32) for a in (out, *pull(g.astype(dtype)))]

    exact = gradients("plain", jnp.float32)
    off = {
        how: [np.abs(a - b).max() for a, b in zip(gradients(how, jnp.bfloat16), exact, strict=True)]
        for how in ("plain", "chunked")
    }
    assert all(c < 2 * p < 0.5 for c, p in zip(off["chunked"], off["plain"], strict=True)), off


def test_chunked_attention_survives_large_logits():
    q = 100 * normal(0, (1, 40, 1, 8))
    assert np.isfinite(ops.attention(q, q, q, "chunked")).all()


def test_auto_is_resolved_by_backend():
    assert ops.pick("auto", kind="matmul", backend="cpu") == "flat"
    assert ops.pick("auto", kind="attention", backend="gpu") == "cudnn"
    assert ops.pick("auto", kind="attention", backend="gpu", refusal=lambda how: "no") == "plain"
    assert ops.pick("auto", kind="attention", backend="rocket") == "plain"
    assert ops.pick("chunked", kind="attention", backend="tpu") == "chunked"
