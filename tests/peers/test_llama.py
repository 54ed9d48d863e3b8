"""Compare logits, gradients and loss curves with `transformers` and torch.

Shapes: B batch, T positions, V vocabulary; letters of weights as in scaling/models/layers.py.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from scaling.config import load as config_lib
from scaling.models.heads import heads_of
from scaling.models.losses import token_losses
from scaling.models.transformer import language
from scaling.programs import schedules, train_step

V, T, B = 256, 48, 8
SMALL = {
    "model.depth": 3,
    "model.width": 64,
    "model.head_dim": 16,
    "model.mlp_width": 172,
    "data.seq_len": T,
    "data.vocab_size": V,
    "train.batch_size": B,
    "train.steps_per_dispatch": 8,
    "train.log_every": 8,
    "train.tokens": 8 * B * T,
    "eval.batch_size": B,
    "optim.lr": 3e-3,
    "optim.clip": 0.5,  # below the first norms, so that clipping is compared as well
    "optim.schedule": "constant",
    "optim.warmup_fraction": 0.0,
}
FORMS = [
    {"model.matmul": "plain", "model.attention": "plain"},
    {"model.matmul": "flat", "model.attention": "chunked"},
]

MODELS = {
    "llama": {},
    "llama, grouped": {"model.kv_heads": 2},
    "llama, all biases": {"model.kv_heads": 2, "model.bias": "all"},
    "qwen2": {"model.kv_heads": 1, "model.bias": "qkv"},
    "qwen3": {"model.heads": 8, "model.kv_heads": 2, "model.qk_norm": True},
}


@pytest.fixture(scope="module")
def config():
    """configs/llama.py, small."""
    return config_lib.with_values(config_lib.load("configs/llama.py"), SMALL)


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(1).integers(0, V, (B, T + 1))


def by_name(params) -> dict[str, np.ndarray]:
    """Parameters by the last two keys of their path, which tell all of them apart."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {".".join(str(part.key) for part in path[-2:]): np.asarray(x) for path, x in leaves}
    assert len(named) == len(leaves)
    return {name.removeprefix("inputs.").removeprefix("outputs."): x for name, x in named.items()}


def llama_weights(params) -> dict[str, torch.Tensor]:
    """The state dict of LlamaForCausalLM, from our parameters or from their gradients."""
    ours = by_name(params)
    weights = {
        "model.embed_tokens.weight": ours["embedding_VD"],
        "model.norm.weight": ours["final_norm.scale"],
        "lm_head.weight": ours["head_DV"].T,
    }
    width = ours["embedding_VD"].shape[1]
    for layer in range(len(ours["mlp.w_FD"])):
        q_DHK, k_DNK, v_DNK = projections(ours, layer)
        w_HKD = ours["attention.w_HKD"][layer]
        w_DGF, w_FD = ours["mlp.w_DGF"][layer], ours["mlp.w_FD"][layer]
        of_layer = {
            "self_attn.q_proj": q_DHK.reshape(width, -1).T,
            "self_attn.k_proj": k_DNK.reshape(width, -1).T,
            "self_attn.v_proj": v_DNK.reshape(width, -1).T,
            "self_attn.o_proj": w_HKD.reshape(-1, width).T,
            "mlp.gate_proj": w_DGF[:, 0].T,
            "mlp.up_proj": w_DGF[:, 1].T,
            "mlp.down_proj": w_FD.T,
            "input_layernorm": ours["attention_norm.scale"][layer],
            "post_attention_layernorm": ours["mlp_norm.scale"][layer],
        }
        if "q_norm.scale" in ours:
            of_layer |= {f"self_attn.{n}": ours[f"{n}.scale"][layer] for n in ("q_norm", "k_norm")}
        weights |= {f"model.layers.{layer}.{name}.weight": x for name, x in of_layer.items()}
        biases = biases_of(ours, layer)
        weights |= {f"model.layers.{layer}.{name}.bias": x for name, x in biases.items()}
    return {name: torch.tensor(np.ascontiguousarray(x)) for name, x in weights.items()}


def projections(ours, layer: int) -> list[np.ndarray]:
    """The matrices of queries, keys and values."""
    if "attention.w_DHXK" in ours:
        return list(np.moveaxis(ours["attention.w_DHXK"][layer], 2, 0))
    return [ours["attention.w_DHK"][layer], *np.moveaxis(ours["attention.w_DNXK"][layer], 2, 0)]


def biases_of(ours, layer: int) -> dict[str, np.ndarray]:
    """The biases of a layer by the names of `transformers`; no norm of RMS has one."""
    if "attention.b_HK" not in ours:
        return {}
    b_NXK = ours["attention.b_NXK"][layer]
    named = {
        "self_attn.q_proj": ours["attention.b_HK"][layer].reshape(-1),
        "self_attn.k_proj": b_NXK[:, 0].reshape(-1),
        "self_attn.v_proj": b_NXK[:, 1].reshape(-1),
    }
    if "mlp.b_GF" in ours:
        named |= {
            "self_attn.o_proj": ours["attention.b_D"][layer],
            "mlp.gate_proj": ours["mlp.b_GF"][layer][0],
            "mlp.up_proj": ours["mlp.b_GF"][layer][1],
            "mlp.down_proj": ours["mlp.b_D"][layer],
        }
    return named


def llama(config, params) -> LlamaForCausalLM:
    """The model of `transformers` with our parameters in float32."""
    m, (heads, kv_heads) = config.model, heads_of(config.model)
    sizes = dict(
        vocab_size=V,
        hidden_size=m.width,
        intermediate_size=m.mlp_width,
        num_hidden_layers=m.depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=m.head_dim,
        max_position_embeddings=T,
        rms_norm_eps=m.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": m.rope_base},
        hidden_act="silu",
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    if m.qk_norm:
        model = Qwen3ForCausalLM(Qwen3Config(**sizes, attention_bias=False))
    elif m.bias == "qkv":
        model = Qwen2ForCausalLM(Qwen2Config(**sizes))
    else:
        all_ = m.bias == "all"
        model = LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=all_, mlp_bias=all_))
    model.load_state_dict(llama_weights(params), strict=True)
    return model.float()


def build(config):
    """(a model's graph, its parameters), scales away from 1 and biases from 0."""
    with nnx.use_eager_sharding(False):
        model = language(config.model, vocab_size=V, seq_len=T, rngs=nnx.Rngs(params=3))
    graph, params = nnx.split(model, nnx.Param)
    rng = np.random.default_rng(0)

    def moved(path, x):
        name = jax.tree_util.keystr(path)
        if "'b_" in name:
            return x + 0.3 * rng.normal(size=x.shape).astype(np.float32)
        return x * rng.uniform(0.5, 1.5, x.shape).astype(np.float32) if "scale" in name else x

    return graph, jax.tree_util.tree_map_with_path(moved, params)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))


@pytest.mark.parametrize("form", FORMS, ids=["plain", "fast"])
@pytest.mark.parametrize("model", MODELS)
def test_logits_and_gradients_equal_those_of_transformers(config, tokens, model, form):
    config = config_lib.with_values(config, MODELS[model])
    graph, params = build(config_lib.with_values(config, form))

    def loss_and_logits(params):
        logits_BTV = nnx.merge(graph, params)(tokens[:, :-1])
        return token_losses(logits_BTV, tokens[:, 1:]).mean(), logits_BTV

    (loss, logits_BTV), grads = jax.jit(jax.value_and_grad(loss_and_logits, has_aux=True))(params)
    theirs = llama(config, nnx.to_pure_dict(params))
    their_logits_BTV = theirs(torch.tensor(tokens[:, :-1])).logits
    their_loss = cross_entropy(their_logits_BTV, torch.tensor(tokens[:, 1:]))
    their_loss.backward()
    assert np.abs(logits_BTV).max() > 1, "logits near 0 would be equal for no reason"
    np.testing.assert_allclose(logits_BTV, their_logits_BTV.detach(), rtol=1e-5, atol=1e-5)
    assert float(loss) == pytest.approx(their_loss.item(), rel=1e-6)
    their_grads = {name: p.grad for name, p in theirs.named_parameters()}
    ours = llama_weights(nnx.to_pure_dict(grads))
    assert set(ours) == set(their_grads)
    for name, grad in ours.items():
        scale = their_grads[name].abs().max().item()
        assert scale > 0, name
        np.testing.assert_allclose(
            grad, their_grads[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name
        )


def test_eight_training_steps_give_the_losses_of_torch(config):
    """Our compiled training program against transformers' model, torch's AdamW and its clipping."""
    o, steps = config.optim, config.train.steps_per_dispatch
    programs = train_step.programs(config)
    state = programs.init(0)
    theirs = llama(config, state["params"])
    start = np.random.default_rng(2).integers(0, V, (steps, B, 1))
    tokens_KBT1 = ((start + 3 * np.arange(T + 1)) % V).astype(np.uint8)
    hyper_R = {k: np.full(1, v, np.float32) for k, v in schedules.hyperparameters(config).items()}
    zero_R = np.zeros(1, np.int32)
    batch = programs.batch(tokens_KBT1[None])
    state, metrics = programs.train(state, hyper_R, batch, zero_R, zero_R, zero_R + steps)

    decayed = [p for p in theirs.parameters() if p.dim() == 2]
    scales = [p for p in theirs.parameters() if p.dim() == 1]
    adamw = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": o.weight_decay},
            {"params": scales, "weight_decay": 0.0},
        ],
        lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps,
    )  # fmt: skip
    losses, norms = [], []
    for tokens_BT1 in torch.tensor(tokens_KBT1.astype(np.int64)):
        adamw.zero_grad()
        loss = cross_entropy(theirs(tokens_BT1[:, :-1]).logits, tokens_BT1[:, 1:])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(theirs.parameters(), o.clip).item())
        adamw.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5, "nothing was learned"
    assert max(norms) > o.clip, "nothing was clipped"
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], norms, rtol=1e-4)
