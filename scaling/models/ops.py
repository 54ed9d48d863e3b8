"""Matrix products and causal attention, each in a plain form and in a form that is fast on CPUs.

Shapes: B batch, T query positions, S key positions, D model width, H heads, K head size,
F any output size, C positions of one query chunk.

The fast forms compute the same numbers up to the order of float additions; `tests/models/test_ops.py`
compares them. `pick` is the one place where a backend decides between them; `fused.py` has what accelerators bring.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from scaling.errors import UserError
from scaling.models import axes, fused

MATMULS = ("auto", "plain", "flat")
ATTENTIONS = ("auto", "plain", "chunked", "cudnn", "splash")
# what "auto" takes where the kernel has no objection; everywhere else "plain"
FASTEST = {
    "matmul": {"cpu": "flat"},
    "attention": {"cpu": "chunked", "gpu": "cudnn", "tpu": "splash"},
}
# (longest T, chunk): of 16, 32, 64 and 128 the fastest at T = 128, D = 16 to 128, and at T = 256, D = 128 and 384,
# on two CPU cores
QUERY_CHUNKS = ((128, 32), (math.inf, 64))


def pick(
    choice: str,
    *,
    kind: str,
    backend: str,
    sequence_shards: int = 1,
    refusal: Callable[[str], str] = lambda how: "",
) -> str:
    """Resolve "auto" for `kind` ("matmul" or "attention") on `backend` ("cpu", "gpu", "tpu").

    `refusal` says why a form does not take the model, see `fused.py`. Where positions are split over devices
    the plain forms are the ones whose shapes stay split. Raises UserError where the config asks for another
    there, or for a form that refuses.
    """
    if sequence_shards > 1:
        if choice not in ("auto", "plain"):
            raise UserError(
                f"config.model.{kind}={choice!r} takes whole sequences; with config.parallel.sequence="
                f"{sequence_shards} choose 'plain' or 'auto'"
            )
        return "plain"
    if choice != "auto":
        if reason := refusal(choice):
            raise UserError(reason)
        return choice
    fastest = FASTEST[kind].get(backend, "plain")
    return "plain" if refusal(fastest) else fastest


def matmul(x: jax.Array, w_DF: jax.Array, how: str) -> jax.Array:
    """`x_..D @ w_DF`; "flat" writes the gradient as two-dimensional products."""
    return flat_matmul(x, w_DF) if how == "flat" else x @ w_DF


@jax.custom_vjp
def flat_matmul(x: jax.Array, w_DF: jax.Array) -> jax.Array:
    """`x_..D @ w_DF` with every product, forward and backward, over 2-D operands.

    XLA:CPU has a fast path for 2-D products only; the gradient of a batched one, which contracts
    over two axes at once, misses it.
    """
    x_ND = x.reshape(-1, x.shape[-1])
    return (x_ND @ w_DF).reshape(*x.shape[:-1], w_DF.shape[-1])


def _flat_matmul_forward(x, w_DF):
    return flat_matmul(x, w_DF), (x, w_DF)


def _flat_matmul_backward(saved, g):
    x, w_DF = saved
    g_NF = g.reshape(-1, g.shape[-1])
    x_ND = x.reshape(-1, x.shape[-1])
    return (g_NF @ w_DF.T).reshape(x.shape), x_ND.T @ g_NF


flat_matmul.defvjp(_flat_matmul_forward, _flat_matmul_backward)


def causal_attention(q_BTHK, k_BTHK, v_BTHK, how: str) -> jax.Array:
    """Softmax attention over earlier positions; returns `o_BTHK` in the dtype of the inputs."""
    if how == "chunked":
        return chunked_attention(q_BTHK, k_BTHK, v_BTHK)
    if how == "splash":
        names = ("batch", None, "heads", None)
        return axes.by_device(fused.splash_attention, q_BTHK, k_BTHK, v_BTHK, names=names)
    return jax.nn.dot_product_attention(
        q_BTHK,
        k_BTHK,
        v_BTHK,
        is_causal=True,
        implementation="cudnn" if how == "cudnn" else "xla",
    )


@functools.partial(jax.jit, static_argnames="chunk")
def chunked_attention(q_BTHK, k_BTHK, v_BTHK, chunk: int = 0) -> jax.Array:
    """Causal attention in static chunks of queries, 0 = by QUERY_CHUNKS.

    Each chunk sees only the keys up to its own end, so about half of the products that the mask
    would discard are never computed; the softmax is normalised after the product with the values.
    """
    T, K = q_BTHK.shape[1], q_BTHK.shape[3]
    chunk = chunk or next(c for longest, c in QUERY_CHUNKS if longest >= T)
    q_BHTK = jnp.swapaxes(q_BTHK, 1, 2) * jnp.asarray(1 / math.sqrt(K), q_BTHK.dtype)
    k_BHTK = jnp.swapaxes(k_BTHK, 1, 2)
    v_BHTK = jnp.swapaxes(v_BTHK, 1, 2)
    outputs = []
    for start in range(0, T, chunk):
        end = min(start + chunk, T)
        logits_BHCS = _attention_logits(q_BHTK[:, :, start:end], k_BHTK[:, :, :end])
        visible_CS = jnp.arange(end)[None, :] <= jnp.arange(start, end)[:, None]
        logits_BHCS = jnp.where(visible_CS, logits_BHCS, -1e30)
        peak_BHC1 = jax.lax.stop_gradient(logits_BHCS.max(axis=-1, keepdims=True))
        weights_BHCS = jnp.exp(logits_BHCS - peak_BHC1)
        total_BHC1 = weights_BHCS.sum(axis=-1, keepdims=True)
        o_BHCK = jnp.einsum(
            "bhcs,bhsk->bhck", weights_BHCS.astype(v_BHTK.dtype), v_BHTK[:, :, :end]
        )
        outputs.append((o_BHCK / total_BHC1).astype(q_BTHK.dtype))
    return jnp.swapaxes(jnp.concatenate(outputs, axis=2), 1, 2)


def _attention_logits(q_BHCK, k_BHSK) -> jax.Array:
    """Float32 products of queries and keys; those of their gradients are of the dtype of the inputs, too."""
    product = _float32_products if q_BHCK.dtype == jnp.float32 else _narrow_products
    return product(q_BHCK, k_BHSK)


def _float32_products(q_BHCK, k_BHSK):
    return jnp.einsum("bhck,bhsk->bhcs", q_BHCK, k_BHSK, preferred_element_type=jnp.float32)


_narrow_products = jax.custom_vjp(_float32_products)


def _narrow_products_backward(saved, g_BHCS):
    """The float32 gradient is rounded before its products, as in FlashAttention; else they would be float32."""
    q_BHCK, k_BHSK = saved
    g_BHCS = g_BHCS.astype(q_BHCK.dtype)
    return jnp.einsum("bhcs,bhsk->bhck", g_BHCS, k_BHSK), jnp.einsum(
        "bhcs,bhck->bhsk", g_BHCS, q_BHCK
    )


_narrow_products.defvjp(lambda q, k: (_float32_products(q, k), (q, k)), _narrow_products_backward)
