"""Cross-entropy of every token, with the logits of all positions at once or of a chunk of them at a time.

Shapes: B batch, T positions, C positions of a chunk, N chunks, D model width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from scaling.errors import UserError
from scaling.models import axes

LARGE = 8192  # vocabulary from which on "auto" takes chunks: smaller logits are smaller than activations
CHUNK = 128  # positions of a chunk, at most


def token_losses(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """Cross-entropy in nats, `[B, T]` float32; no device needs logits of a part of V that is another's."""
    logits_BTV = logits_BTV.astype(jnp.float32)
    log_total_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    if axes.splits("vocab"):
        here_BTV = jnp.arange(logits_BTV.shape[-1]) == targets_BT[..., None]
        picked_BT = jnp.where(here_BTV, logits_BTV, 0.0).sum(axis=-1)
    else:
        picked_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    return log_total_BT - picked_BT


def in_chunks(
    logits_of: Callable[[jax.Array], jax.Array], x_BTD: jax.Array, targets_BT: jax.Array, chunk: int
) -> jax.Array:
    """`token_losses(logits_of(x_BTD), targets_BT)`, `chunk` positions after another; 0 takes all at once.

    The backward pass computes the logits of each chunk again, so that those of one exist at any time.
    """
    B, T = targets_BT.shape
    if not chunk or chunk >= T:
        return token_losses(logits_of(x_BTD), targets_BT)

    @jax.checkpoint
    def one(part):
        x_BCD, targets_BC = part
        return token_losses(logits_of(x_BCD), targets_BC)

    x_NBCD = jnp.moveaxis(x_BTD.reshape(B, T // chunk, chunk, -1), 1, 0)
    targets_NBC = jnp.moveaxis(targets_BT.reshape(B, T // chunk, chunk), 1, 0)
    return jnp.moveaxis(jax.lax.map(one, (x_NBCD, targets_NBC)), 0, 1).reshape(B, T)


def pick_chunk(choice: int, *, vocab_size: int, seq_len: int, sequence_shards: int = 1) -> int:
    """Resolve config.model.loss_chunk: positions of a chunk, 0 for all at once.

    -1 takes chunks of CHUNK where the vocabulary is LARGE and positions are not split over devices. Raises
    UserError where a chunk does not divide the context, or where positions are split.
    """
    if choice == -1:
        whole = vocab_size < LARGE or sequence_shards > 1
        return 0 if whole else max(d for d in range(1, CHUNK + 1) if seq_len % d == 0)
    if choice and sequence_shards > 1:
        raise UserError(
            f"config.model.loss_chunk={choice} cuts positions that config.parallel.sequence={sequence_shards} "
            "splits already; choose 0 or -1"
        )
    if choice < 0 or (choice and seq_len % choice):
        near = min(
            (d for d in range(1, seq_len + 1) if seq_len % d == 0), key=lambda d: abs(d - choice)
        )
        raise UserError(
            f"config.model.loss_chunk={choice} does not divide config.data.seq_len={seq_len}; the nearest that "
            f"does is {near}, 0 takes all positions at once, -1 chooses"
        )
    return choice
