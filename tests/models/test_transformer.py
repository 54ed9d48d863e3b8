"""The Transformer: causal, same numbers by every switch, every parameter names its axes."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.config import load as config_lib
from scaling.models.losses import token_losses
from scaling.models.transformer import language
from scaling.parallel import sharding

T, V = 24, 256
ARCHITECTURES = [
    {},
    {"model.mlp": "swiglu", "model.qk_norm": True, "model.tied_head": True},
    {"model.norm": "layernorm", "model.positions": "learned", "model.mlp": "gelu"},
]


def build(values):
    values = {
        "model.depth": 3, "model.width": 32, "model.mlp_width": 64,
        "model.matmul": "plain", "model.attention": "plain", **values,
    }  # fmt: skip
    config = config_lib.with_values(config_lib.load("configs/base.py"), values)
    with nnx.use_eager_sharding(False):
        return language(config.model, vocab_size=V, seq_len=T, rngs=nnx.Rngs(params=3))


def tokens(batch=2):
    return jax.random.randint(jax.random.key(0), (batch, T + 1), 0, V)


def loss_and_grads(model):
    graph, params = nnx.split(model, nnx.Param)

    def loss(params, tokens_BT1):
        logits = nnx.merge(graph, params)(tokens_BT1[:, :-1])
        return token_losses(logits, tokens_BT1[:, 1:]).mean()

    return jax.jit(jax.value_and_grad(loss))(params, tokens())


@pytest.mark.parametrize("values", ARCHITECTURES, ids=str)
def test_no_position_sees_a_later_one(values):
    model = build(values)
    first = tokens()[:, :-1]
    second = first.at[:, 10:].set((first[:, 10:] + 1) % V)
    a, b = model(first), model(second)
    np.testing.assert_allclose(a[:, :10], b[:, :10], rtol=1e-5, atol=1e-5)
    assert np.abs(a[:, 10:] - b[:, 10:]).max() > 1e-3


@functools.cache
def _plain(number: int):
    """Return loss and gradients of an architecture without switches."""
    return loss_and_grads(build(ARCHITECTURES[number]))


@pytest.mark.parametrize("values", ARCHITECTURES, ids=str)
@pytest.mark.parametrize(
    "switch",
    [
        {"model.scan_layers": True},
        {"model.remat": "block"},
        {"model.scan_layers": True, "model.remat": "block"},
        {"model.matmul": "flat", "model.attention": "chunked"},
        {"model.matmul": "flat", "model.remat": "dots"},
        {"model.remat": "dots"},
    ],
    ids=str,
)
def test_switches_leave_loss_and_gradient_unchanged(values, switch):
    plain_loss, plain_grads = _plain(ARCHITECTURES.index(values))
    loss, grads = loss_and_grads(build({**values, **switch}))
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(plain_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def count_products(jaxpr) -> int:
    count = 0
    for equation in jaxpr.eqns:
        count += equation.primitive.name == "dot_general"
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            count += count_products(inner) if hasattr(inner, "eqns") else 0
    return count


@pytest.mark.parametrize("how", ["plain", "flat"])
def test_dots_computes_fewer_products_again_than_block(how):
    def products(remat):
        model = build({"model.matmul": how, "model.remat": remat})
        graph, params = nnx.split(model, nnx.Param)

        def loss(params, tokens_BT1):
            return nnx.merge(graph, params)(tokens_BT1[:, :-1]).sum()

        return count_products(jax.make_jaxpr(jax.grad(loss))(params, tokens()).jaxpr)

    kept, dots, block = (products(remat) for remat in ("none", "dots", "block"))
    assert kept <= dots < block
    assert (
        block - dots >= 3 * 3
    )  # of three blocks three products with weights each; the last feeds a sum alone


@pytest.mark.parametrize("values", ARCHITECTURES, ids=str)
def test_every_parameter_names_a_known_axis_per_dimension(values):
    state = nnx.state(build(values), nnx.Param)
    for path, variable in nnx.to_flat_state(state):
        axes = variable.get_metadata("out_sharding")
        assert len(axes) == variable[...].ndim, path
        assert set(axes) <= set(sharding.RULES), path


def test_layers_start_differently_and_at_the_stated_scale():
    model = build(
        {"model.depth": 4, "model.width": 128, "model.head_dim": 16, "model.mlp_width": 512}
    )
    w_LDGF = np.asarray(model.blocks.mlp.w_DGF[...])
    w_LFD = np.asarray(model.blocks.mlp.w_FD[...])
    assert np.abs(w_LDGF[0] - w_LDGF[1]).max() > 0.01
    assert w_LDGF.std() == pytest.approx(128**-0.5, rel=0.05)
    assert w_LFD.std() == pytest.approx((512 * 2 * 4) ** -0.5, rel=0.05)


def test_bfloat16_computes_in_bfloat16_and_returns_float32():
    model = build({"model.dtype": "bfloat16"})
    exact = build({})
    logits = model(tokens()[:, :-1])
    assert logits.dtype == jnp.float32
    assert model.inputs.embedding_VD[...].dtype == jnp.float32
    error = np.abs(logits - exact(tokens()[:, :-1])).max()
    assert 1e-4 < error < 0.2  # not the float32 numbers, yet close to them


def test_gradients_of_a_bfloat16_embedding_add_up_in_float32():
    from scaling.models.embed_and_head import look_up

    table = jnp.ones((3, 8), jnp.bfloat16)
    often = jnp.zeros((4, 1024), jnp.int32).at[0, 0].set(2)

    def loss(table):
        return (look_up(table, often).astype(jnp.float32) * 0.01).sum()

    gradient = jax.grad(loss)(table)
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(gradient[0].astype(np.float32), 40.95, rtol=0.01)
    np.testing.assert_allclose(gradient[2].astype(np.float32), 0.01, rtol=0.01)
    assert (gradient[1] == 0).all()


def test_rotary_attention_depends_on_distance_alone():
    from scaling.models.layers import rotate

    x = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (1, 1, 1, 8)), (1, T, 1, 8))
    turned = rotate(x, 10_000.0)[0, :, 0]
    products = turned @ turned.T
    np.testing.assert_allclose(products[3, 1], products[13, 11], rtol=1e-5)
    assert abs(products[3, 1] - products[3, 2]) > 0.01 * products[3, 3]
