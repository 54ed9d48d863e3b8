"""Run a language model on a few more tokens, with what earlier positions left in a cache.

Shapes: B rows, T new positions, S positions of the cache, D width, H query heads, N key-value
heads, Q query heads of each, K head size, V vocabulary.

Rows are padded on the left, so that all of them end together: `pad_B` counts the padding. Attention
keeps keys and values, the LSTM and the LRU their state. Other kinds keep the tokens and run the
whole model again.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models.block import Block
from scaling.models.embed_and_head import TokenHead, Tokens
from scaling.models.heads import heads_of
from scaling.models.layers import Attention
from scaling.models.recurrent import LRU, LSTM, cell
from scaling.models.transformer import Transformer

CACHED = ("transformer", "lstm", "lru")  # kinds whose blocks keep something of earlier positions


def layers(model: Transformer) -> list[Block]:
    """Return the model's blocks, each with its own parameters. Call it before a loop."""
    graph, stacked = nnx.split(model.blocks)
    return [
        nnx.merge(graph, jax.tree.map(lambda x, i=i: x[i], stacked)) for i in range(model.depth)
    ]


def empty(model: Any, B: int, S: int) -> Any:
    """Return the cache of B rows before the first position, for a config's `model` section."""
    dtype, D = jnp.dtype(model.dtype), model.width
    if model.kind == "transformer":
        N = heads_of(model)[1]
        one: Any = tuple(jnp.zeros((B, S, N, model.head_dim), dtype) for _ in range(2))
    elif model.kind == "lstm":
        one = jnp.zeros((B, D), dtype), jnp.zeros((B, D), jnp.float32)
    elif model.kind == "lru":
        one = tuple(jnp.zeros((B, D), jnp.float32) for _ in range(2))
    else:
        return jnp.zeros((B, S), jnp.int32)
    return (one,) * model.depth


def extend(model: Transformer, blocks: list[Block], tokens_BT, cache, start, pad_B):
    """Return (the logits after the last of the new tokens `[B, V]`, the next cache).

    The new tokens stand at positions `start` to `start + T`, of which the first `pad_B` are
    padding.
    """
    kind, T = blocks[0].kind, tokens_BT.shape[1]
    if kind not in CACHED:
        return _whole(model, tokens_BT, cache, start, pad_B)
    assert isinstance(model.inputs, Tokens) and isinstance(model.outputs, TokenHead)
    places_T = start + jnp.arange(T)
    positions_BT = jnp.maximum(places_T - pad_B[:, None], 0)
    real_BT = places_T >= pad_B[:, None]
    x_BTD, embedding_VD = model.inputs(tokens_BT, positions_BT)
    kept = []
    for block, own in zip(blocks, cache, strict=True):

        def mixed(mixer, x_BTD, own=own):
            if isinstance(mixer, Attention):
                y_BTD, own = _attention(mixer, x_BTD, own, start, positions_BT, pad_B)
            elif isinstance(mixer, LSTM):
                y_BTD, own = _lstm(mixer, x_BTD, own, real_BT)
            else:
                y_BTD, own = _lru(mixer, x_BTD, own, real_BT)
            kept.append(own)
            return y_BTD

        x_BTD, _ = block(x_BTD, mixed)
    x_BTD = model.final_norm(x_BTD[:, -1:])
    return model.outputs(x_BTD, embedding_VD)[:, 0], tuple(kept)


def _whole(model: Transformer, tokens_BT, cache_BS, start, pad_B):
    """Run the model on all tokens so far, shifted left by the padding."""
    S, T = cache_BS.shape[1], tokens_BT.shape[1]
    cache_BS = jax.lax.dynamic_update_slice(cache_BS, tokens_BT, (0, start))
    shifted_BS = jnp.take_along_axis(
        cache_BS, jnp.minimum(jnp.arange(S) + pad_B[:, None], S - 1), axis=1
    )
    x_BSD, shared, _ = model.hidden(shifted_BS)
    last_B11 = (start + T - 1 - pad_B)[:, None, None]
    return model.outputs(jnp.take_along_axis(x_BSD, last_B11, axis=1), shared)[:, 0], cache_BS


def _attention(attention: Attention, x_BTD, cache, start, positions_BT, pad_B):
    """Return y_BTD of the new positions, which see themselves and the cache before them."""
    q_BTHK, k_BTNK, v_BTNK = attention.heads(x_BTD, positions_BT)
    k_BSNK, v_BSNK = (
        jax.lax.dynamic_update_slice(old, new, (0, start, 0, 0))
        for old, new in zip(cache, (k_BTNK, v_BTNK), strict=True)
    )
    (B, T, H, K), (S, N) = q_BTHK.shape, k_BSNK.shape[1:3]
    q_BTNQK = q_BTHK.reshape(B, T, N, H // N, K) * jnp.asarray(1 / math.sqrt(K), q_BTHK.dtype)
    logits_BNQTS = jnp.einsum(
        "btnqk,bsnk->bnqts", q_BTNQK, k_BSNK, preferred_element_type=jnp.float32
    )
    place_S, place_T = jnp.arange(S), start + jnp.arange(T)
    seen_BTS = (place_S <= place_T[:, None]) & (place_S >= pad_B[:, None, None])
    w_BNQTS = jax.nn.softmax(jnp.where(seen_BTS[:, None, None], logits_BNQTS, -1e30))
    o_BTNQK = jnp.einsum("bnqts,bsnk->btnqk", w_BNQTS.astype(v_BSNK.dtype), v_BSNK)
    return attention.output(o_BTNQK.reshape(B, T, H, K), x_BTD), (k_BSNK, v_BSNK)


def _lstm(mixer: LSTM, x_BTD, state, real_BT):
    def over_time(z_TBZ, u_SZ):
        nonlocal state

        def step(old, at):
            z_BZ, real_B = at
            new = _where(real_B, cell(old, z_BZ, u_SZ)[0], old)
            return new, new[0]

        state, h_TBS = jax.lax.scan(step, state, (z_TBZ, real_BT.T))
        return h_TBS

    y_BTD = mixer(x_BTD, over_time)
    return y_BTD, state


def _lru(mixer: LRU, x_BTD, state, real_BT):
    def over_time(re_S, im_S, u_BTS, v_BTS):
        nonlocal state

        def step(old, at):
            (r_BS, i_BS), (u_BS, v_BS, real_B) = old, at
            new = re_S * r_BS - im_S * i_BS + u_BS, re_S * i_BS + im_S * r_BS + v_BS
            new = _where(real_B, new, old)
            return new, new

        along = (jnp.moveaxis(u_BTS, 1, 0), jnp.moveaxis(v_BTS, 1, 0), real_BT.T)
        state, states = jax.lax.scan(step, state, along)
        return tuple(jnp.moveaxis(x, 0, 1) for x in states)

    y_BTD = mixer(x_BTD, over_time)
    return y_BTD, state


def _where(real_B, new, old):
    """Return the new state of rows that are no padding here, the old one of the others."""
    return tuple(jnp.where(real_B[:, None], n, o) for n, o in zip(new, old, strict=True))
