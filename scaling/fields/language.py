"""Language: a causal model of text. A row is a window of T + 1 tokens; D counts tokens.

Shapes: B windows, T positions, N held-out windows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from scaling.data import pipeline
from scaling.data import prepare as documents
from scaling.data.tokenizers import TOKENIZER
from scaling.fields.field import HeldOutRows, Prepared
from scaling.metrics.tokens import language
from scaling.models import transformer


def example(c):
    return jax.ShapeDtypeStruct((c.data.seq_len + 1,), np.min_scalar_type(c.data.vocab_size - 1))


def prepare(c) -> Prepared:
    data = documents.prepare(c.data)

    def dispatches(c, share):
        return pipeline.Dispatches(
            data.train,
            seq_len=c.data.seq_len,
            batch_size=c.train.batch_size,
            steps=c.train.steps_per_dispatch,
            seed=c.seed,
            unique=c.data.unique_tokens,
            host=share[0],
            hosts=share[1],
        )

    def held_out(c):
        tokens_NT1 = pipeline.held_out_windows(
            data.valid, seq_len=c.data.seq_len, count=c.eval.tokens
        )
        bytes_N = data.byte_lengths[tokens_NT1[:, 1:]].sum(axis=1)
        # Windows of one document are one draw, since they share what is odd about it.
        ends = np.flatnonzero(data.valid == data.separator)
        begins_N = pipeline.held_out_begins(data.valid, seq_len=c.data.seq_len, count=c.eval.tokens)
        groups_N = np.searchsorted(ends, begins_N)
        return HeldOutRows(tokens_NT1, c.data.seq_len, bytes_N=bytes_N, groups_N=groups_N)

    unique, seq_len = len(data.train), c.data.seq_len
    if c.data.unique_tokens and c.data.unique_tokens < unique:
        unique = c.data.unique_tokens // seq_len * seq_len
    path = data.folder / TOKENIZER
    file = path if path.is_file() else None
    return Prepared(data.fingerprint, unique, unique, dispatches, held_out, file)


def model(c, rngs) -> transformer.Transformer:
    d = c.data
    return transformer.language(c.model, vocab_size=d.vocab_size, seq_len=d.seq_len, rngs=rngs)


def inputs(tokens_BT1):
    return tokens_BT1[:, :-1].astype(jnp.int32)


def loss(model, tokens_BT1, chunk, terms):
    tokens_BT1 = tokens_BT1.astype(jnp.int32)
    return model.losses(tokens_BT1[:, :-1], tokens_BT1[:, 1:], chunk, terms).mean()


def readings(model, tokens_BT1, chunk):
    tokens_BT1 = tokens_BT1.astype(jnp.int32)
    losses_BT, hits_BT = model.losses_and_hits(tokens_BT1[:, :-1], tokens_BT1[:, 1:], chunk)
    return {"loss": losses_BT.sum(axis=-1), "correct": hits_BT.sum(axis=-1)}


def metrics(readings_N, rows):
    tokens_N = np.full(len(readings_N["loss"]), rows.targets)
    values = language(
        readings_N["loss"], tokens_N, rows.bytes_N, readings_N["correct"], rows.groups_N
    )
    return {k: v for k, v in values.items() if k != "loss"}  # a column anyway


def details(readings_N, rows):
    return {}
