"""Recommendation: the next item of a user's sequence, as in SASRec (Kang & McAuley 2018).

The softmax is over all items, in place of sampled negatives. A row is a window of T + 1 items,
padded on the left with 0; D counts positions.

Shapes: B windows, T positions, I items (0 is padding), N held-out users.
"""

from __future__ import annotations

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data import augment, interactions, sequence_batches
from scaling.fields.field import HeldOutRows, Prepared
from scaling.metrics.items import ranking
from scaling.models import transformer
from scaling.utils.errors import UserError


def example(c):
    return jax.ShapeDtypeStruct((c.data.seq_len + 1,), jnp.int32)


def prepare(c) -> Prepared:
    if c.data.unique_tokens:
        raise UserError(
            f"config.data.unique_tokens={c.data.unique_tokens}: users are not cut; use a smaller "
            "table, or 0"
        )
    data = interactions.prepare(c.data)
    held_out_U, fingerprint = None, data.fingerprint
    if c.data.valid_split == "users":
        held_out_U = sequence_batches.held_out_users(data, c.data.valid_fraction)
        split = f"{fingerprint} users {c.data.valid_fraction!r}"
        fingerprint = hashlib.sha256(split.encode()).hexdigest()[:16]
        if not held_out_U.any() or held_out_U.all():
            raise UserError(
                f"config.data.valid_fraction={c.data.valid_fraction}: holds out "
                f"{held_out_U.sum()} of {len(held_out_U)} users; choose another"
            )

    def dispatches(c, share):
        return sequence_batches.SequenceDispatches(
            data,
            seq_len=c.data.seq_len,
            batch_size=c.train.batch_size,
            steps=c.train.steps_per_dispatch,
            seed=c.seed,
            held_out_U=held_out_U,
            drop_items=c.data.drop_items,
            host=share[0],
            hosts=share[1],
        )

    def held_out(c):
        tokens_NT1, user_N = sequence_batches.held_out_sequences(
            data, seq_len=c.data.seq_len, count=c.eval.tokens, held_out_U=held_out_U
        )
        return HeldOutRows(tokens_NT1, 1, groups_N=None if held_out_U is None else user_N)

    windows = dispatches(c, (0, 1)).windows
    targets = int(np.maximum(sequence_batches.history(data, held_out_U) - 1, 0).sum())
    fingerprint = augment.fingerprint(fingerprint, c.data)
    return Prepared(fingerprint, targets, windows * c.data.seq_len, dispatches, held_out)


def model(c, rngs) -> transformer.Transformer:
    d = c.data
    return transformer.language(c.model, vocab_size=d.vocab_size, seq_len=d.seq_len, rngs=rngs)


def inputs(tokens_BT1):
    return tokens_BT1[:, :-1]


def loss(model, tokens_BT1, chunk, terms):
    """Mean over the targets that are no padding."""
    targets_BT = tokens_BT1[:, 1:]
    losses_BT = model.losses(tokens_BT1[:, :-1], targets_BT, chunk, terms)
    real_BT = targets_BT != 0
    return jnp.where(real_BT, losses_BT, 0.0).sum() / jnp.maximum(real_BT.sum(), 1)


def readings(model, tokens_BT1, chunk):
    """Return the loss and rank of the last position alone: earlier ones may have been trained on.

    The rank is among all items; a tie counts against the target.
    """
    target_B1 = tokens_BT1[:, -1:]
    logits_BI = model.last_logits(tokens_BT1[:, :-1])
    score_B1 = jnp.take_along_axis(logits_BI, target_B1, axis=-1)
    item_I = jnp.arange(logits_BI.shape[-1]) > 0
    loss_B = jax.nn.logsumexp(logits_BI, axis=-1) - score_B1[:, 0]
    return {"loss": loss_B, "rank": ((logits_BI >= score_B1) & item_I).sum(axis=-1)}


def metrics(readings_N, rows):
    return ranking(readings_N["rank"], groups_N=rows.groups_N)


def details(readings_N, rows):
    return {}
