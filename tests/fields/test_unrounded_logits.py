"""Under bfloat16 every field evaluates logits that are not rounded, and trains on rounded ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling.fields import registry as fields
from scaling.models.embed_and_head import TokenHead
from scaling.models.losses import PLAIN
from scaling.models.patches import LabelHead
from tests.fields.common import config_of


def abstract(field, values):
    """(config, model of shapes, a batch of shapes)"""
    config = config_of(field, **{"model.width": 24, "model.depth": 1, **values})
    config.model.attention, config.model.matmul = "plain", "flat"
    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(lambda: fields.of(field).model(config, nnx.Rngs(0)))
    row = fields.of(field).example(config)
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((4, *x.shape), x.dtype), row)
    return config, nnx.split(model), batch


def products(jaxpr, size):
    """The types of all products with results of `size` along the last axis, also inner ones."""
    found = set()
    for equation in jaxpr.eqns:
        shape = equation.outvars[0].aval.shape
        if equation.primitive.name == "dot_general" and shape[-1:] == (size,):
            found.add(equation.outvars[0].aval.dtype.name)
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            found |= products(inner, size) if hasattr(inner, "eqns") else set()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("language", {}), ("language", {"model.tied_head": True}), ("vision", {}),
        ("speech", {}), ("recommend", {}), ("recommend", {"model.tied_head": False}),
    ],
    ids=str,
)  # fmt: skip
def test_evaluation_does_not_round_logits_and_training_does(field, values, dtype):
    config, (graph, params), batch = abstract(field, {"model.dtype": dtype, **values})
    classes = config.data.classes or config.data.vocab_size
    assert classes not in (config.model.width, config.model.mlp_width, config.data.seq_len)

    def evaluated(params, batch):
        return fields.of(field).readings(nnx.merge(graph, params), batch, 0)

    def trained(params, batch):
        return fields.of(field).loss(nnx.merge(graph, params), batch, 0, PLAIN)

    assert products(jax.make_jaxpr(evaluated)(params, batch).jaxpr, classes) == {"float32"}
    assert products(jax.make_jaxpr(trained)(params, batch).jaxpr, classes) == {dtype}


def test_logits_are_the_sums_of_exact_products():
    """Positions that tie for the first place show rounding."""
    config = config_of("language", **{"model.dtype": "bfloat16", "model.width": 32})
    config.model.matmul = "plain"
    x_BTD = jax.random.normal(jax.random.key(1), (2, 500, 32)).astype(jnp.bfloat16)
    with nnx.use_eager_sharding(False):
        head = TokenHead(config.model, vocab_size=256, rngs=nnx.Rngs(0))
        labels = LabelHead(config.model, classes=10, rngs=nnx.Rngs(0))
    exact_BTV = np.float64(x_BTD) @ np.float64(head.head_DV[...].astype(jnp.bfloat16))
    logits_BTV = head(x_BTD, None)
    np.testing.assert_allclose(logits_BTV, exact_BTV, atol=1e-5)
    ties = (logits_BTV == logits_BTV.max(axis=-1, keepdims=True)).sum(axis=-1) > 1
    assert not ties.any()
    target_BT = logits_BTV.argmax(axis=-1)
    losses_BT, hits_BT = head.losses_and_hits(x_BTD, None, target_BT)
    assert hits_BT.all()
    ours = np.log(np.exp(exact_BTV).sum(axis=-1)) - exact_BTV.max(axis=-1)
    np.testing.assert_allclose(losses_BT, ours, atol=1e-5)
    mean_BD = np.float64(jnp.float32(x_BTD).mean(axis=1).astype(jnp.bfloat16))
    exact_BY = mean_BD @ np.float64(labels.head_DY[...].astype(jnp.bfloat16))
    np.testing.assert_allclose(labels(x_BTD, None), exact_BY, atol=1e-6)
