"""Recurrences, convolutions and experts against their equations, forward and backward."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.models import activations, conv, experts, ops, recurrent

B, S = 2, 5


def normal(seed, shape):
    return jax.random.normal(jax.random.key(seed), shape)


def agree(ours, plain, *args, atol=2e-5):
    """Same results, and same gradients of a sum of theirs with random weights."""

    def graded(function):
        out, pull = jax.vjp(function, *args)
        leaves, tree = jax.tree.flatten(out)
        weights = [normal(90 + i, leaf.shape) for i, leaf in enumerate(leaves)]
        return out, pull(jax.tree.unflatten(tree, weights))

    found, expected = jax.jit(graded, static_argnums=0)(ours), graded(plain)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=atol)


def test_lstm_is_its_equations():
    def plain(z_TBZ, u_SZ):
        h = c = jnp.zeros((B, S))
        found = []
        for z_BZ in z_TBZ:
            i, f, o, g = jnp.split(z_BZ + h @ u_SZ, 4, axis=-1)
            c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            found.append(h)
        return jnp.stack(found)

    agree(recurrent.cells, plain, normal(0, (7, B, 4 * S)), normal(1, (S, 4 * S)))


@pytest.mark.parametrize("T", [1, 4, 13, 300])
def test_linear_recurrence_is_its_equation(T):
    def plain(re_S, im_S, u_BTS, v_BTS):
        def step(s_BS, x_BS):
            s_BS = (re_S + 1j * im_S) * s_BS + x_BS
            return s_BS, s_BS

        x_TBS = jnp.moveaxis(u_BTS + 1j * v_BTS, 1, 0)
        s_TBS = jax.lax.scan(step, jnp.zeros((B, S), jnp.complex64), x_TBS)[1]
        return jnp.moveaxis(s_TBS.real, 0, 1), jnp.moveaxis(s_TBS.imag, 0, 1)

    size, angle = jnp.linspace(0.1, 0.99, S), jnp.linspace(0, 6, S)
    inputs = (normal(i, (B, T, S)) for i in range(2))
    agree(
        recurrent.recurrence, plain, size * jnp.cos(angle), size * jnp.sin(angle), *inputs,
        atol=2e-3,
    )  # fmt: skip
    assert recurrent.chunk(T) * recurrent.CHUNKS >= T


@pytest.mark.parametrize("sides", [1, 2])
def test_depthwise_convolution_is_that_of_lax(sides):
    shape, pads = ((9,), ((4, 0),)) if sides == 1 else ((6, 4), ((2, 2), (2, 2)))
    x, w = normal(0, (B, *shape, S)), normal(1, (5,) * sides + (S,))
    axes = ("NWC", "WIO", "NWC") if sides == 1 else ("NHWC", "HWIO", "NHWC")

    def plain(x, w):
        return jax.lax.conv_general_dilated(
            x, jnp.expand_dims(w, -2), (1,) * sides, pads, dimension_numbers=axes,
            feature_group_count=S,
        )  # fmt: skip

    agree(lambda x, w: conv.depthwise(x, w, pads), plain, x, w)


@pytest.mark.parametrize("how", ["chunked", "plain"])
def test_attention_of_a_grid_sees_all(how):
    def plain(q, k, v):
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / 8**0.5)
        return jnp.einsum("bhts,bshk->bthk", weights, v)

    qkv = [normal(i, (B, 9, 3, 8)) for i in range(3)]
    agree(lambda *qkv: ops.attention(*qkv, how, causal=False), plain, *qkv)


@pytest.mark.parametrize("routes", ["random", "one expert"])
@pytest.mark.parametrize(("kind", "G"), [("swiglu", 2), ("relu2", 1)])
def test_experts_drop_nothing(kind, G, routes):
    T, D, E, F, k = 21, 6, 4, 8, 2
    chosen_BTk = jax.lax.top_k(normal(3, (B, T, E)), k)[1]
    if routes == "one expert":
        chosen_BTk = jnp.broadcast_to(jnp.arange(2, 2 + k), chosen_BTk.shape)

    def plain(x_BTD, gate_BTk, w_EDGF, w_EFD):
        weight_BTE = (jax.nn.one_hot(chosen_BTk, E) * gate_BTk[..., None]).sum(axis=2)
        h = [jnp.einsum("btd,edf->btef", x_BTD, w_EDGF[:, :, g]) for g in range(G)]
        return jnp.einsum("btef,efd,bte->btd", activations.of(kind).function(h), w_EFD, weight_BTE)

    def ours(x_BTD, gate_BTk, w_EDGF, w_EFD):
        return experts.dispatched(x_BTD, gate_BTk, chosen_BTk, w_EDGF, w_EFD, kind=kind)

    args = [
        normal(i, shape) for i, shape in enumerate([(B, T, D), (B, T, k), (E, D, G, F), (E, F, D)])
    ]
    agree(ours, plain, *args, atol=1e-4)


def test_blocks_have_one_expert_each_and_little_that_fills_them():
    M, E = 4096, 8
    C = experts.block_rows(M, E)
    expert_M = jax.random.categorical(jax.random.key(0), jnp.arange(E) / 2.0, shape=(M,))
    source_WC, place_M, expert_W = experts.blocks(expert_M, E, C)
    np.testing.assert_array_equal(source_WC.reshape(-1)[place_M], np.arange(M))
    for rows, expert in zip(np.asarray(source_WC), np.asarray(expert_W), strict=True):
        assert set(np.asarray(expert_M)[rows[rows < M]]) <= {expert}
    assert M < source_WC.size <= M * 9 / 8
    assert [experts.block_rows(M, 8) for M in (1, 100, 10**6)] == [8, 8, 128]


def test_load_balance_is_one_where_experts_are_used_alike():
    E = 4
    even_BTk = jnp.arange(8).reshape(1, 4, 2) % E
    uniform_BTE = jnp.full((1, 4, E), 1 / E)
    assert experts.load_balance(uniform_BTE, even_BTk) == pytest.approx(1)
    one_BTE, one_BTk = jnp.eye(E)[jnp.zeros((1, 4), int)], jnp.zeros((1, 4, 1), int)
    assert experts.load_balance(one_BTE, one_BTk) == pytest.approx(E)
