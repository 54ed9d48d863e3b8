"""Matrix products and attention, each in a plain form and in one that is fast on CPUs.

Shapes: B batch, T query positions, S key positions, D model width, H query heads, N key-value
heads, Q query heads of each, K head size, F any output size, C positions of one query chunk.

The fast forms compute the same numbers up to the order of float additions;
`tests/models/test_ops.py` compares them. `pick` alone decides between them; `fused.py` has the
kernels of accelerators.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from scaling.models import fused, logical_axes
from scaling.utils.errors import UserError

PRODUCT = "product"
# "auto" takes these, or "plain" if the kernel refuses the model
FASTEST = {
    "matmul": {"cpu": "flat"},
    "attention": {"cpu": "chunked", "gpu": "cudnn", "tpu": "splash"},
}
# (longest T, chunk): of 16, 32, 64 and 128 the fastest on two CPU cores at T = 128, D = 16 to 128,
# and at T = 256, D = 128 and 384
QUERY_CHUNKS = ((128, 32), (math.inf, 64))


def pick(
    choice: str,
    *,
    kind: str,
    backend: str,
    sequence_shards: int = 1,
    refusal: Callable[[str], str] = lambda form: "",
) -> str:
    """Resolve "auto" for `kind` ("matmul" or "attention") on `backend` ("cpu", "gpu", "tpu").

    `refusal` returns why a form does not take the model, see `fused.py`. With positions split over
    devices only the plain forms keep their arrays split. Raises UserError if the config asks for
    another form then, or for one that refuses the model.
    """
    if sequence_shards > 1:
        if choice not in ("auto", "plain"):
            raise UserError(
                f"config.model.{kind}={choice!r} takes whole sequences; with "
                f"config.parallel.sequence={sequence_shards} choose 'plain' or 'auto'"
            )
        return "plain"
    if choice != "auto":
        if reason := refusal(choice):
            raise UserError(reason)
        return choice
    fastest = FASTEST[kind].get(backend, "plain")
    return "plain" if refusal(fastest) else fastest


def matmul(x: jax.Array, w_DF: jax.Array, form: str) -> jax.Array:
    """`x_..D @ w_DF`; the form "flat" writes the gradient as two-dimensional products."""
    # The name is for `config.model.remat`, which does not see the product inside a function with
    # its own gradient.
    return checkpoint_name(flat_matmul(x, w_DF), PRODUCT) if form == "flat" else x @ w_DF


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
    if w_DF.shape[0] > w_DF.shape[1]:
        # Eigen is up to twice as fast at short and wide products; without the barrier XLA undoes
        # this
        dw_DF = jax.lax.optimization_barrier(g_NF.T @ x_ND).T
    else:
        dw_DF = x_ND.T @ g_NF
    return (g_NF @ w_DF.T).reshape(x.shape), dw_DF


flat_matmul.defvjp(_flat_matmul_forward, _flat_matmul_backward)


def attention(q_BTHK, k_BTNK, v_BTNK, form: str, causal: bool = True) -> jax.Array:
    """Softmax attention over all or, if `causal`, earlier positions, in the dtype of the inputs.

    Query head h uses key-value head h // (H / N); none is repeated in memory.
    """
    if form == "chunked":
        return _by_group(chunked_attention if causal else full_attention, q_BTHK, k_BTNK, v_BTNK)
    if form == "splash":
        splash = functools.partial(fused.splash_attention, causal=causal)
        names = ("batch", None, "heads", None)
        return logical_axes.by_device(splash, q_BTHK, k_BTNK, v_BTNK, names=names)
    return jax.nn.dot_product_attention(
        q_BTHK,
        k_BTNK,
        v_BTNK,
        is_causal=causal,
        implementation="cudnn" if form == "cudnn" else "xla",
    )


def _by_group(function: Callable, q_BTHK, k_BTNK, v_BTNK) -> jax.Array:
    """Call a function of equally many heads once for each query head of the groups."""
    (B, T, H, K), N = q_BTHK.shape, k_BTNK.shape[2]
    if N == H:
        return function(q_BTHK, k_BTNK, v_BTNK)
    q_BTNQK = q_BTHK.reshape(B, T, N, H // N, K)
    o_BTNQK = jax.vmap(function, in_axes=(3, None, None), out_axes=3)(q_BTNQK, k_BTNK, v_BTNK)
    return o_BTNQK.reshape(q_BTHK.shape)


def full_attention(q_BTHK, k_BTHK, v_BTHK) -> jax.Array:
    """Attention of every position to all, batched over B and H."""
    dtype, K = q_BTHK.dtype, q_BTHK.shape[3]
    q_BHTK, k_BHSK, v_BHSK = (jnp.swapaxes(a, 1, 2) for a in (q_BTHK, k_BTHK, v_BTHK))
    logits_BHTS = _product("bhtk,bhsk->bhts", q_BHTK * jnp.asarray(1 / math.sqrt(K), dtype), k_BHSK)
    largest_BHT1 = jax.lax.stop_gradient(logits_BHTS.max(axis=-1, keepdims=True))
    w_BHTS = jnp.exp(logits_BHTS - largest_BHT1)
    o_BHTK = _product("bhts,bhsk->bhtk", w_BHTS.astype(dtype), v_BHSK)
    o_BHTK = o_BHTK / w_BHTS.sum(axis=-1, keepdims=True)
    return jnp.swapaxes(o_BHTK, 1, 2).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def chunked_attention(q_BTHK, k_BTHK, v_BTHK, chunk: int = 0) -> jax.Array:
    """Causal attention in static chunks of queries, 0 = by QUERY_CHUNKS.

    Each chunk sees only the keys up to its own end, so about half of the products that the mask
    would discard are never computed. The softmax is normalised after the product with the values.
    The gradient is written out: it sums the shares of a key in one pass, while the compiler pads
    each to all keys.
    """
    return _chunked_forward(q_BTHK, k_BTHK, v_BTHK, chunk)[0]


_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _chunked_forward(q_BTHK, k_BTHK, v_BTHK, chunk):
    T, K = q_BTHK.shape[1], q_BTHK.shape[3]
    q_BHTK = jnp.swapaxes(q_BTHK, 1, 2) * jnp.asarray(1 / math.sqrt(K), q_BTHK.dtype)
    k_BHTK, v_BHTK = jnp.swapaxes(k_BTHK, 1, 2), jnp.swapaxes(v_BTHK, 1, 2)
    outputs, weights = [], []
    for start, end in _spans(T, chunk):
        logits_BHCS = _product("bhck,bhsk->bhcs", q_BHTK[:, :, start:end], k_BHTK[:, :, :end])
        visible_CS = jnp.arange(end)[None, :] <= jnp.arange(start, end)[:, None]
        logits_BHCS = jnp.where(visible_CS, logits_BHCS, -1e30)
        w_BHCS = jnp.exp(logits_BHCS - logits_BHCS.max(axis=-1, keepdims=True))
        scale_BHC1 = 1 / w_BHCS.sum(axis=-1, keepdims=True)
        w_BHCS = w_BHCS.astype(v_BHTK.dtype)
        outputs.append(_product("bhcs,bhsk->bhck", w_BHCS, v_BHTK[:, :, :end]) * scale_BHC1)
        weights.append((w_BHCS, scale_BHC1))
    o_BHTK = jnp.concatenate(outputs, axis=2).astype(q_BTHK.dtype)
    return jnp.swapaxes(o_BHTK, 1, 2), (q_BHTK, k_BHTK, v_BHTK, o_BHTK, weights)


def _chunked_backward(chunk, saved, g_BTHK):
    """With P the softmax: dV = P'G, dP = GV', dS = P (dP - rowsum(G O)), dQ = dS K, dK = dS'Q."""
    q_BHTK, k_BHTK, v_BHTK, o_BHTK, weights = saved
    dtype, T, K = q_BHTK.dtype, q_BHTK.shape[2], q_BHTK.shape[3]
    g_BHTK = jnp.swapaxes(g_BTHK, 1, 2).astype(jnp.float32)
    dq, dk, dv = [], [], []
    for (start, end), (w_BHCS, scale_BHC1) in zip(_spans(T, chunk), weights, strict=True):
        g32_BHCK = g_BHTK[:, :, start:end] * scale_BHC1  # the weights are not normalised, g is
        mean_BHC1 = (g32_BHCK * o_BHTK[:, :, start:end]).sum(axis=-1, keepdims=True)
        g_BHCK = g32_BHCK.astype(dtype)
        dw_BHCS = _product("bhck,bhsk->bhcs", g_BHCK, v_BHTK[:, :, :end]) - mean_BHC1
        ds_BHCS = (w_BHCS * dw_BHCS).astype(dtype)
        dv.append(_product("bhcs,bhck->bhsk", w_BHCS, g_BHCK))
        dq.append(_product("bhcs,bhsk->bhck", ds_BHCS, k_BHTK[:, :, :end]))
        dk.append(_product("bhcs,bhck->bhsk", ds_BHCS, q_BHTK[:, :, start:end]))

    def summed(parts):
        """Return the sum of parts that hold the first keys of all."""
        spans = enumerate(_spans(T, chunk))
        return jnp.concatenate(
            [sum(p[:, :, a:b] for p in parts[i:]) for i, (a, b) in spans], axis=2
        )

    dq_BHTK = jnp.concatenate(dq, axis=2) * (1 / math.sqrt(K))
    return tuple(
        jnp.swapaxes(d_BHTK, 1, 2).astype(dtype) for d_BHTK in (dq_BHTK, summed(dk), summed(dv))
    )


def _spans(T: int, chunk: int) -> list[tuple[int, int]]:
    """(start, end) of each chunk of queries."""
    chunk = chunk or next(c for longest, c in QUERY_CHUNKS if longest >= T)
    return [(start, min(start + chunk, T)) for start in range(0, T, chunk)]


chunked_attention.defvjp(_chunked_forward, _chunked_backward)
