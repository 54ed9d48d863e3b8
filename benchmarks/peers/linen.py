"""Train with a Flax Linen step in the style of NanoDO, one jitted step per call.

    python -m benchmarks.peers.linen --size=S --tokens=tokens.npy

The step has modules, a TrainState and optax.

Query, key and value projections are separate. Attention is two einsums and a masked softmax. The
metrics of a step are read while the next one runs. Otherwise it is the block of torch_gpt.py.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from benchmarks.peers import turns
from benchmarks.sizes import SIZES, Size


class Attention(nn.Module):
    size: Size

    @nn.compact
    def __call__(self, x_BTD):
        H, K, T = self.size.heads, self.size.head_dim, x_BTD.shape[1]
        q_BTHK, k_BTHK, v_BTHK = (
            nn.DenseGeneral((H, K), use_bias=False, name=name)(x_BTD)
            for name in ("query", "key", "value")
        )
        logits_BHTS = jnp.einsum("bthk,bshk->bhts", q_BTHK / K**0.5, k_BTHK)
        seen_TS = jnp.tril(jnp.ones((T, T), bool))
        logits_BHTS = jnp.where(seen_TS, logits_BHTS, jnp.finfo(logits_BHTS.dtype).min)
        o_BTHK = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(logits_BHTS), v_BTHK)
        return nn.DenseGeneral(self.size.width, axis=(-2, -1), use_bias=False, name="out")(o_BTHK)


class Block(nn.Module):
    size: Size

    @nn.compact
    def __call__(self, x_BTD):
        x_BTD = x_BTD + Attention(self.size)(nn.LayerNorm(use_bias=False)(x_BTD))
        h_BTF = nn.Dense(self.size.mlp_width, use_bias=False)(nn.LayerNorm(use_bias=False)(x_BTD))
        return x_BTD + nn.Dense(self.size.width, use_bias=False)(jax.nn.gelu(h_BTF))


class Transformer(nn.Module):
    size: Size

    @nn.compact
    def __call__(self, tokens_BT):
        embed = nn.Embed(self.size.vocab, self.size.width)
        positions = nn.Embed(self.size.seq_len, self.size.width)
        x_BTD = embed(tokens_BT) + positions(jnp.arange(tokens_BT.shape[1]))
        for _ in range(self.size.depth):
            x_BTD = Block(self.size)(x_BTD)
        return embed.attend(nn.LayerNorm(use_bias=False)(x_BTD))


def train_step(state: TrainState, tokens_BT1):
    def loss(params):
        logits_BTV = state.apply_fn({"params": params}, tokens_BT1[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, tokens_BT1[:, 1:]).mean()

    value, grads = jax.value_and_grad(loss)(state.params)
    metrics = {"loss": value, "grad_norm": optax.global_norm(grads)}
    return state.apply_gradients(grads=grads), metrics


def main(argv: list[str]) -> int:
    args = turns.arguments(argv)
    size = SIZES[args.size]
    model = Transformer(size)

    def init(key):
        params = model.init(key, jnp.zeros((1, size.seq_len), jnp.int32))["params"]
        transform = optax.chain(
            optax.clip_by_global_norm(turns.CLIP),
            optax.adamw(args.lr, *turns.BETAS, turns.EPS, weight_decay=turns.WEIGHT_DECAY),
        )
        return TrainState.create(apply_fn=model.apply, params=params, tx=transform)

    state = jax.jit(init)(jax.random.key(0))
    step = jax.jit(train_step, donate_argnums=0)
    stream = turns.batches(args.tokens, size)

    def train(steps: int) -> float:
        nonlocal state
        before = None
        for _ in range(steps):
            state, metrics = step(state, next(stream))
            if before:
                jax.device_get(before)
            before = metrics
        return float(np.asarray(metrics["loss"]))

    return turns.serve(train, args.steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
