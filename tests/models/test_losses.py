"""Losses in chunks of positions: the numbers of all at once, and the memory of a chunk."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import compiled
from scaling import config as config_lib
from scaling.errors import UserError
from scaling.models import losses

B, T, D, V = 2, 12, 8, 50


@pytest.mark.parametrize("chunk", [1, 4, 6, 12])
def test_chunks_give_the_losses_and_gradients_of_all_at_once(chunk):
    keys = jax.random.split(jax.random.key(0), 3)
    x_BTD, head_DV = jax.random.normal(keys[0], (B, T, D)), jax.random.normal(keys[1], (D, V))
    targets_BT = jax.random.randint(keys[2], (B, T), 0, V)

    def weighted(chunk):
        def total(x_BTD, head_DV):
            found_BT = losses.in_chunks(lambda x: x @ head_DV, x_BTD, targets_BT, chunk)
            return (found_BT * jnp.arange(B * T).reshape(B, T)).sum(), found_BT

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(x_BTD, head_DV)

    for a, b in zip(jax.tree.leaves(weighted(chunk)), jax.tree.leaves(weighted(0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_fifty_thousand_logits_are_never_whole(config):
    """The training program's own memory, with the loss in chunks and whole, at context 1,024."""
    large = config_lib.with_values(
        config,
        {
            "data.tokenizer": "bpe",
            "data.vocab_size": 50_000,
            "data.seq_len": 1024,
            "train.batch_size": 4,
            "train.tokens": 4096 * 16,
        },
    )
    whole, auto = (
        compiled.compiled(config_lib.with_values(large, {"model.loss_chunk": chunk})).temporary
        for chunk in (0, -1)
    )
    assert whole > 2 * 1024 * 50_000 * 4, "a device has two sequences"
    assert auto < whole / 3


@pytest.mark.parametrize(
    ("choice", "vocab_size", "shards", "chunk"),
    [(-1, 256, 1, 0), (-1, 32_768, 1, 128), (-1, 32_768, 4, 0), (0, 32_768, 1, 0), (64, 256, 1, 64)],
)  # fmt: skip
def test_large_vocabularies_are_taken_in_chunks(choice, vocab_size, shards, chunk):
    picked = losses.pick_chunk(choice, vocab_size=vocab_size, seq_len=1024, sequence_shards=shards)
    assert picked == chunk


@pytest.mark.parametrize(
    ("choice", "shards", "message"),
    [
        (100, 1, "loss_chunk=100 does not divide config.data.seq_len=1024; the nearest that does is 128"),
        (-2, 1, "loss_chunk=-2 does not divide"),
        (64, 2, "cuts positions that config.parallel.sequence=2 splits already"),
    ],
)  # fmt: skip
def test_chunks_that_do_not_fit_are_one_line(choice, shards, message):
    with pytest.raises(UserError, match=message):
        losses.pick_chunk(choice, vocab_size=256, seq_len=1024, sequence_shards=shards)
