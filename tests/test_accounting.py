"""Counts against the real tree, the compiler and published tables."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from scaling import accounting
from scaling import config as config_lib
from scaling.errors import UserError

VARIANTS = [
    {},
    {"model.mlp": "swiglu", "model.qk_norm": True},
    {"model.positions": "learned", "model.norm": "layernorm", "model.tied_head": True},
    {"model.mlp": "gelu", "model.depth": 5, "model.mlp_width": 100},
]


def sized(**values):
    config = config_lib.load("configs/base.py")
    return config_lib.with_values(config, {k.replace("__", "."): v for k, v in values.items()})


@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_groups_add_up_to_the_real_tree(values):
    from scaling import step

    config = config_lib.with_values(config_lib.load("configs/base.py"), values)
    tree = step.programs(config).state_like["params"]
    groups = accounting.param_groups(accounting.shape_of(config))
    assert sum(groups.values()) == sum(x.size for x in jax.tree.leaves(tree))
    assert groups["embedding"] == tree["embedding_VD"].size
    attention = sum(x.size for n, x in tree["blocks"]["attention"].items() if n.startswith("w_"))
    assert groups["mixer"] == attention
    assert groups["mlp"] == sum(x.size for x in jax.tree.leaves(tree["blocks"]["mlp"]))


def test_nanodo_block_parameter_for_parameter():
    s = accounting.shape_of(config_lib.load("configs/nanodo.py"))
    D, F, L, V, T = s.width, s.mlp_width, s.depth, s.vocab_size, s.seq_len
    # token and position embeddings; per block q, k, v, out, two dense, two scales; a final scale
    expected = V * D + T * D + L * (4 * D * D + 2 * D * F + 2 * D) + D
    assert accounting.param_counts(s)["n_params_total"] == expected


def test_llama_block_parameter_for_parameter():
    s = accounting.shape_of(config_lib.load("configs/llama.py"))
    D, F, L, V = s.width, s.mlp_width, s.depth, s.vocab_size
    # embedding and head; per block q, k, v, o, gate, up, down, two norms; the final norm
    expected = 2 * V * D + L * (4 * D * D + 3 * D * F + 2 * D) + D
    assert accounting.param_counts(s)["n_params_total"] == expected


@pytest.mark.parametrize(
    ("width", "depth", "mlp"), [(256, 2, "gelu"), (384, 3, "swiglu"), (512, 2, "relu2")]
)
def test_flops_agree_with_the_compiler_within_five_percent(width, depth, mlp):
    from flax import nnx

    from scaling.models.losses import token_losses
    from scaling.models.transformer import language

    config = sized(
        model__width=width, model__depth=depth, model__mlp=mlp, model__head_dim=64,
        model__mlp_width=4 * width, model__matmul="plain", model__attention="plain",
    )  # fmt: skip
    T, B = config.data.seq_len, 2
    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(
            lambda: language(config.model, vocab_size=256, seq_len=T, rngs=nnx.Rngs(0))
        )
    graph, params = nnx.split(model)

    def loss(params, tokens_BT1):
        logits_BTV = nnx.merge(graph, params)(tokens_BT1[:, :-1])
        return token_losses(logits_BTV, tokens_BT1[:, 1:]).mean()

    tokens = jax.ShapeDtypeStruct((B, T + 1), jnp.int32)
    counted = jax.jit(jax.grad(loss)).lower(params, tokens).cost_analysis()["flops"]
    ours = accounting.flops_per_token(accounting.shape_of(config), "exact") * B * T
    assert counted == pytest.approx(ours, rel=0.05)


def test_appendix_f_written_out_for_one_sequence():
    """The terms of Hoffmann et al. 2022, appendix F, for a whole sequence of a small model."""
    D, L, H, K, F, V, T = 64, 3, 4, 16, 256, 1000, 32
    s = accounting.Shape(L, D, K, F, 1, V, T, False, False, True)
    embeddings = 2 * T * V * D
    qkv = 2 * 3 * T * D * (K * H)
    logits = 2 * T * T * (K * H)
    softmax = 3 * H * T * T
    reduction = 2 * T * T * (K * H)
    output = 2 * T * (K * H) * D
    dense = 2 * T * (D * F + D * F)
    forward = embeddings + L * (qkv + logits + softmax + reduction + output + dense) + 2 * T * D * V
    assert accounting.flops_per_token(s, "appendix_f") * T == 3 * forward


def test_conventions_are_ordered_as_defined():
    s = accounting.shape_of(config_lib.load("configs/base.py"))
    n = accounting.param_counts(s)
    assert accounting.flops_per_token(s, "kaplan") == 6 * n["n_params"]
    assert accounting.flops_per_token(s, "porian") == 6 * n["n_params_with_head"]
    assert accounting.flops_per_token(s, "chinchilla") == 6 * n["n_params_total"]
    lookup = 3 * 2 * s.vocab_size * s.width
    exact, appendix_f = (accounting.flops_per_token(s, c) for c in ("exact", "appendix_f"))
    assert appendix_f - exact == lookup


def test_tokens_for_a_budget_spend_it_to_within_a_step():
    s = accounting.shape_of(config_lib.load("configs/base.py"))
    tokens = accounting.tokens_for_budget(s, 1e12, 2048, "exact")
    per_step = accounting.flops_per_token(s, "exact") * 2048
    assert tokens % 2048 == 0
    assert 1e12 - per_step < accounting.flops_per_token(s, "exact") * tokens <= 1e12


def test_a_budget_below_one_step_is_refused():
    s = accounting.shape_of(config_lib.load("configs/base.py"))
    with pytest.raises(UserError, match="do not pay for one step"):
        accounting.tokens_for_budget(s, 1e6, 2048, "exact")
