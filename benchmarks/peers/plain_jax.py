"""Train with the simplest step in JAX: a dict of arrays, `x @ w`, optax, one jitted step per call.

    python -m benchmarks.peers.plain_jax --size=S --tokens=tokens.npy

It is the block of torch_gpt.py, with attention by `jax.nn.dot_product_attention`.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import optax

from benchmarks.peers import turns
from benchmarks.sizes import SIZES, Size


def init(key, size: Size) -> dict:
    D, F, residual = size.width, size.mlp_width, 0.02 / (2 * size.depth) ** 0.5
    keys = iter(jax.random.split(key, 2 + 4 * size.depth))

    def normal(*shape, std=0.02):
        return std * jax.random.normal(next(keys), shape)

    return {
        "tokens_VD": normal(size.vocab, D),
        "positions_TD": normal(size.seq_len, D),
        "norm_D": jnp.ones(D),
        "blocks": [
            {
                "attention_norm_D": jnp.ones(D),
                "qkv": normal(D, 3 * D),
                "out": normal(D, D, std=residual),
                "mlp_norm_D": jnp.ones(D),
                "up": normal(D, F),
                "down": normal(F, D, std=residual),
            }
            for _ in range(size.depth)
        ],
    }


def norm(x_BTD, scale_D):
    centred_BTD = x_BTD - x_BTD.mean(axis=-1, keepdims=True)
    return (
        centred_BTD
        * jax.lax.rsqrt(jnp.square(centred_BTD).mean(axis=-1, keepdims=True) + 1e-5)
        * scale_D
    )


def loss(params, tokens_BT1, heads: int):
    tokens_BT, target_BT = tokens_BT1[:, :-1], tokens_BT1[:, 1:]
    B, T = tokens_BT.shape
    x_BTD = params["tokens_VD"][tokens_BT] + params["positions_TD"]
    for p in params["blocks"]:
        qkv = (norm(x_BTD, p["attention_norm_D"]) @ p["qkv"]).reshape(B, T, 3, heads, -1)
        o_BTHK = jax.nn.dot_product_attention(*(qkv[:, :, i] for i in range(3)), is_causal=True)
        x_BTD = x_BTD + o_BTHK.reshape(B, T, -1) @ p["out"]
        x_BTD = x_BTD + jax.nn.gelu(norm(x_BTD, p["mlp_norm_D"]) @ p["up"]) @ p["down"]
    logits_BTV = norm(x_BTD, params["norm_D"]) @ params["tokens_VD"].T
    return optax.softmax_cross_entropy_with_integer_labels(logits_BTV, target_BT).mean()


def main(argv: list[str]) -> int:
    args = turns.arguments(argv)
    size = SIZES[args.size]
    params = init(jax.random.key(0), size)
    transform = optax.chain(
        optax.clip_by_global_norm(turns.CLIP),
        optax.adamw(
            args.lr, *turns.BETAS, turns.EPS, weight_decay=turns.WEIGHT_DECAY,
            mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
        ),
    )  # fmt: skip

    def step(params, opt, tokens_BT1):
        value, grads = jax.value_and_grad(loss)(params, tokens_BT1, size.heads)
        updates, opt = transform.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, value

    step = jax.jit(step, donate_argnums=(0, 1))
    state = (params, jax.jit(transform.init)(params))
    stream = turns.batches(args.tokens, size)

    def train(steps: int) -> float:
        nonlocal state
        for _ in range(steps):
            *state, value = step(*state, next(stream))
        return float(value)

    return turns.serve(train, args.steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
