"""Counts against the real tree, the compiler and published tables."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from scaling import accounting
from scaling.config import keys
from scaling.config import load as config_lib
from scaling.utils.errors import UserError
from scaling.utils.registry import MLPS

VARIANTS = [
    {},
    {"model.mlp": "swiglu", "model.qk_norm": True},
    {"model.positions": "learned", "model.norm": "layernorm", "model.tied_head": True},
    {"model.mlp": "gelu", "model.depth": 5, "model.mlp_width": 100},
    {"model.heads": 6, "model.kv_heads": 2, "model.bias": "qkv", "model.qk_norm": True},
]


def sized(**values):
    config = config_lib.load("configs/base.py")
    return config_lib.with_values(config, {k.replace("__", "."): v for k, v in values.items()})


@pytest.mark.parametrize("values", VARIANTS, ids=str)
def test_groups_add_up_to_the_real_tree(values):
    from scaling.programs import train_step

    config = config_lib.with_values(config_lib.load("configs/base.py"), values)
    tree = train_step.programs(config).state_like["params"]
    groups = accounting.param_groups(accounting.shape_of(config))
    assert sum(groups.values()) == sum(x.size for x in jax.tree.leaves(tree))
    assert groups["embedding"] == tree["embedding_VD"].size
    attention = sum(x.size for n, x in tree["blocks"]["attention"].items() if n.startswith("w_"))
    assert groups["mixer"] == attention
    biases = sum(x.size for n, x in tree["blocks"]["attention"].items() if n.startswith("b_"))
    assert groups["biases"] == biases
    assert groups["mlp"] == sum(x.size for x in jax.tree.leaves(tree["blocks"]["mlp"]))


@pytest.fixture
def geglu(monkeypatch):
    """An MLP with two input matrices, as a plugin adds it."""
    monkeypatch.setattr(MLPS, "entries", dict(MLPS.entries))
    MLPS.register("gated", inputs=2)(lambda h: jax.nn.gelu(h[0]) * h[1])
    return "gated"


@pytest.mark.parametrize("experts", [0, 4])
def test_an_added_activation_is_counted_as_built(geglu, experts):
    from scaling.programs import train_step

    config, known = (sized(model__experts=experts, model__mlp=mlp) for mlp in (geglu, "swiglu"))
    tree = train_step.programs(config).state_like["params"]
    counts = accounting.param_counts(accounting.shape_of(config))
    assert counts["n_params_total"] == sum(x.size for x in jax.tree.leaves(tree))
    assert accounting.shape_of(config) == accounting.shape_of(known)


@pytest.mark.parametrize(
    ("traits", "function", "line"),
    [
        ({"inputs": "2"}, lambda h: h[0], "inputs='2' should be"),
        ({"inputs": 1}, lambda h: h[0] * h[1], "IndexError: "),
        ({"inputs": 2}, lambda h: h[0].sum(), "returned "),
    ],
)
def test_a_bad_activation_is_one_line(monkeypatch, traits, function, line):
    from scaling.programs import train_step

    monkeypatch.setattr(MLPS, "entries", dict(MLPS.entries))
    MLPS.register("bad", **traits)(function)
    match = rf"^config.model.mlp='bad' of plugin [\w.]+: {line}"
    with pytest.raises(UserError, match=match) as caught:
        train_step.programs(sized(model__mlp="bad", model__depth=7))  # of no other test
    assert "\n" not in str(caught.value)  # jax adds a note


def test_the_choices_of_the_config_are_registered():
    assert set(keys.KEYS["model.mlp"].choices) <= set(MLPS.entries)
    config = sized()
    config.model.mlp = "silu"
    with pytest.raises(UserError, match=r"^config.model.mlp='silu': not registered[^\n]*$"):
        accounting.shape_of(config)


@pytest.mark.parametrize(
    ("function", "name", "line"),
    [
        ("param_groups", "mlp", r"[\d,]+ parameters are counted, but the model built has"),
        ("param_groups", "embedding", r"[\d,]+ parameters are counted, but the model built has"),
        ("forward_flops_per_token", "qkv", "FLOPs per position of the blocks' products are"),
        ("forward_flops_per_token", "mlp", "FLOPs per position of the blocks' products are"),
    ],
)
def test_a_count_that_differs_from_the_model_is_refused(function, name, line, monkeypatch):
    from scaling.programs import train_step

    count = getattr(accounting, function)
    monkeypatch.setattr(accounting, function, lambda s: {**count(s), name: count(s)[name] // 2})
    with pytest.raises(UserError, match=rf"^config.model: [^\n]*{line}[^\n]*$"):
        train_step.programs(sized(model__depth=9))  # of no other test


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
    ("study", "n_params"),
    [
        ("llama3.py", 8_030_261_248),
        ("qwen3.py", 8_190_735_360),
        ("qwen3.py:0.6B", 596_049_920),
    ],
)
def test_published_models_parameter_for_parameter(study, n_params):
    """The numbers that `transformers` counts of their configs, and those of the model built."""
    from scaling.programs.step_functions import StepFunctions

    config = config_lib.load(f"configs/{study}")
    assert accounting.param_counts(accounting.shape_of(config))["n_params_total"] == n_params
    StepFunctions(with_forms(config))


def with_forms(config):
    """Return the config with its forms resolved, as programs are built for it."""
    return config_lib.with_values(config, {"model.attention": "plain", "model.matmul": "plain"})


def compiled_flops(config, B: int) -> float:
    """FLOPs of the loss and its gradient of B sequences as XLA counts them, loops once."""
    from flax import nnx

    from scaling.models.losses import token_losses
    from scaling.models.transformer import language

    T = config.data.seq_len
    with nnx.use_eager_sharding(False):
        model = nnx.eval_shape(
            lambda: language(config.model, vocab_size=256, seq_len=T, rngs=nnx.Rngs(0))
        )
    graph, params = nnx.split(model)

    def loss(params, tokens_BT1):
        logits_BTV = nnx.merge(graph, params)(tokens_BT1[:, :-1])
        return token_losses(logits_BTV, tokens_BT1[:, 1:]).mean()

    tokens = jax.ShapeDtypeStruct((B, T + 1), jnp.int32)
    return jax.jit(jax.grad(loss)).lower(params, tokens).cost_analysis()["flops"]


@pytest.mark.parametrize(
    ("width", "depth", "mlp", "kv_heads"),
    [(256, 2, "gelu", None), (384, 3, "swiglu", None), (512, 2, "relu2", 2)],
)
def test_flops_agree_with_the_compiler_within_five_percent(width, depth, mlp, kv_heads):
    config = sized(
        model__width=width, model__depth=depth, model__mlp=mlp, model__head_dim=64,
        model__mlp_width=4 * width, model__matmul="plain", model__attention="plain",
        model__kv_heads=kv_heads,
    )  # fmt: skip
    ours = (
        accounting.flops_per_token(accounting.shape_of(config), "exact") * 2 * config.data.seq_len
    )
    assert compiled_flops(config, 2) == pytest.approx(ours, rel=0.05)


@pytest.mark.parametrize(
    "values",
    [
        {"model.kind": "mlp"},
        {"model.kind": "cnn"},
        {"model.kind": "lstm"},
        {"model.kind": "lru"},
        {"model.kind": "mlp", "model.experts": 8, "model.mlp": "swiglu"},
    ],
    ids=str,
)
def test_flops_of_every_kind_agree_with_the_compiler_within_five_percent(values, monkeypatch):
    from scaling.models import experts, recurrent

    T, B = 32, 64
    # the compiler counts a loop's body once: loops over time and over blocks are written out
    scan = jax.lax.scan
    everything = lambda f, init, xs, **kw: scan(f, init, xs, **{**kw, "unroll": True})  # noqa: E731
    monkeypatch.setattr(jax.lax, "scan", everything)
    monkeypatch.setattr(
        jax.lax, "map", lambda f, xs: everything(lambda _, x: (None, f(x)), None, xs)[1]
    )
    config = config_lib.with_values(config_lib.load("configs/base.py"), {
        "model.width": 256, "model.depth": 1, "model.mlp_width": 512, "data.seq_len": T,
        "model.matmul": "plain", "model.attention": "plain", **values,
    })  # fmt: skip
    shape = accounting.shape_of(config)
    ours = accounting.flops_per_token(shape, "exact") * B * T
    if shape.experts:  # the rows that fill up blocks
        M = B * T * shape.experts_per_token
        C = experts.block_rows(M, shape.experts)
        ours += 3 * accounting.forward_flops_per_token(shape)["mlp"] * B * T * shape.experts * C / M
    if shape.kind == "lru":
        assert recurrent.chunk(T) == 4
    assert compiled_flops(config, B) == pytest.approx(ours, rel=0.05)


def test_the_taps_of_a_convolution_are_counted_exactly():
    """Their difference, since all of a mixer is within the tolerance above."""
    few, many = (
        config_lib.with_values(config_lib.load("configs/base.py"), {
            "model.kind": "cnn", "model.kernel": kernel, "model.width": 256, "model.depth": 1,
            "data.seq_len": 32, "model.matmul": "plain",
        })
        for kernel in (3, 31)
    )  # fmt: skip
    ours = [
        accounting.flops_per_token(accounting.shape_of(c), "exact") * 64 * 32 for c in (few, many)
    ]
    compiled = [compiled_flops(c, 64) for c in (few, many)]
    assert compiled[1] - compiled[0] == pytest.approx(ours[1] - ours[0], rel=0.01)


def test_experts_count_where_a_token_uses_them():
    dense, routed = (
        accounting.shape_of(sized(model__experts=e, model__experts_per_token=2)) for e in (0, 8)
    )
    d, r = accounting.param_counts(dense), accounting.param_counts(routed)
    assert d["n_params_active"] == d["n_params"]
    mlp, router = accounting.param_groups(dense)["mlp"], dense.depth * dense.width * 8
    assert r["n_params"] == d["n_params"] + 7 * mlp + router
    assert r["n_params_active"] == d["n_params"] + mlp + router
    for convention, n in (("kaplan", "n_params"), ("chinchilla", "n_params_total")):
        per_token = accounting.flops_per_token(routed, convention)
        assert per_token == 6 * (d[n] + mlp + router), convention


@pytest.mark.parametrize("kind", ["mlp", "cnn", "lstm", "lru"])
def test_every_kind_has_a_ladder(kind):
    from scaling.sweep.plan import ladder

    config = config_lib.with_values(
        config_lib.load("configs/python_text.py"), {"model.kind": kind, "model.experts": 4}
    )
    rungs = ladder.ladder(config)
    assert len(rungs) > 3
    assert [r.n_params for r in rungs] == sorted({r.n_params for r in rungs})
    assert all(r.shape.kind == kind and r.shape.experts == 4 for r in rungs)


def test_appendix_f_written_out_for_one_sequence():
    """The terms of Hoffmann et al. 2022, appendix F, for a whole sequence of a small model."""
    D, L, H, K, F, V, T = 64, 3, 4, 16, 256, 1000, 32
    s = accounting.Shape(L, D, K, F, 1, V, T, False, False, True, H, H)
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
