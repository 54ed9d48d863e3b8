"""The two ends of a sequence model: token embeddings, and the head with its losses.

Shapes: B batch, T positions, C positions of a chunk, D model width, V vocabulary, J tokens of a
window.

A model's first module is an `InputPart`, its last an `OutputPart`. Initialisation as in
`layers.py`.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import logical_axes, losses, ops, parametrization
from scaling.models.parameters import Matrix, normal_param


class InputPart(Protocol):
    """The front end, an `nnx.Module`."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of positions, row by row; None for a causal sequence."""

    def __call__(self, inputs) -> tuple[jax.Array, Any]:
        """Return x_BTD, and what the output part may use of this part."""


class OutputPart(Protocol):
    """The back end, after the final norm; an `nnx.Module`. `shared` is from the input part."""

    def __call__(self, x_BTD, shared, /) -> jax.Array:
        """Return float32 logits for evaluation, see `losses.unrounded`."""

    def losses(self, x_BTD, shared, targets, chunk: int, terms: losses.LossTerms, /) -> jax.Array:
        """Return cross-entropies in nats, with the gradient of the objective of `terms`."""


def look_up(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """Return rows of a table. The gradient of a row sums over all of its uses in float32."""
    if table_VD.dtype == jnp.float32:
        return table_VD[tokens_BT]
    return _look_up_low_precision(table_VD, tokens_BT)


@jax.custom_vjp
def _look_up_low_precision(table_VD, tokens_BT):
    return table_VD[tokens_BT]


def _look_up_forward(table_VD, tokens_BT):
    return table_VD[tokens_BT], (tokens_BT, table_VD[:, :0])


def _look_up_backward(saved, g_BTD):
    tokens_BT, like_V0 = saved
    sums_VD = jnp.zeros((like_V0.shape[0], g_BTD.shape[-1]), jnp.float32)
    return sums_VD.at[tokens_BT].add(g_BTD.astype(jnp.float32)).astype(like_V0.dtype), None


_look_up_low_precision.defvjp(_look_up_forward, _look_up_backward)


class Tokens(nnx.Module):
    """Embeddings of `tokens_BT` below `vocab_size`, T at most `seq_len`.

    With a `window` of J tokens (0: none) a position sees the last J embeddings, side by side, times
    one matrix (Bengio et al. 2003):

      x_t = sum_j W_j e_{t - (J - 1) + j}, e = 0 before the first token
    """

    def __init__(self, model, *, vocab_size: int, seq_len: int, window: int = 0, rngs: nnx.Rngs):
        D, J, dtype = model.width, window, jnp.dtype(model.param_dtype)
        std = parametrization.of(model).end_std
        self.embedding_VD = normal_param(
            rngs, (vocab_size, D), std, ("vocab", "embed"), dtype, matrix=None
        )
        self.positions_TD = (
            normal_param(rngs, (seq_len, D), std, ("positions", "embed"), dtype, matrix=None)
            if model.positions == "learned"
            else None
        )
        if J:
            names, matrix = ("window", "embed", "width"), Matrix((-3, -2), (-1,))
            self.w_JDD = normal_param(rngs, (J, D, D), 1 / math.sqrt(J * D), names, dtype, matrix)
        self.window, self.matmul, self.compute_dtype = J, model.matmul, model.dtype

    @property
    def grid(self) -> None:
        return None

    def __call__(self, tokens_BT, positions_BT=None):
        """(x_BTD, embedding_VD). Learned positions count from 0 unless given."""
        dtype = jnp.dtype(self.compute_dtype)
        embedding_VD = logical_axes.gathered(self.embedding_VD[...].astype(dtype), "vocab", "embed")
        x_BTD = look_up(embedding_VD, tokens_BT)
        if self.window:
            w_JDD = logical_axes.gathered(self.w_JDD[...].astype(dtype), "window", "embed", "width")
            x_BTD = ops.matmul(
                self._windows(x_BTD), w_JDD.reshape(-1, x_BTD.shape[-1]), self.matmul
            )
        if self.positions_TD is not None:
            positions_TD = logical_axes.gathered(
                self.positions_TD[...].astype(dtype), "positions", "embed"
            )
            at = slice(tokens_BT.shape[1]) if positions_BT is None else positions_BT
            x_BTD = x_BTD + positions_TD[at]
        return logical_axes.constrain(x_BTD, "batch", "sequence", "width"), embedding_VD

    def _windows(self, x_BTD):
        """Return the last J of each position, side by side."""
        J, T = self.window, x_BTD.shape[1]
        x_BTD = logical_axes.constrain(x_BTD, "batch", "keys", "width")
        padded = jnp.pad(x_BTD, ((0, 0), (J - 1, 0), (0, 0)))
        return jnp.concatenate([padded[:, j : j + T] for j in range(J)], axis=-1)


class TokenHead(nnx.Module):
    """Logits of the next token, by a matrix of its own or by the embedding of `Tokens`."""

    def __init__(self, model, *, vocab_size: int, rngs: nnx.Rngs):
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        scales = parametrization.of(model)
        self.head_DV = (
            None
            if model.tied_head
            else normal_param(
                rngs, (D, vocab_size), scales.end_std, ("embed", "vocab"), dtype, matrix=None
            )
        )
        self.matmul, self.compute_dtype, self.scales = model.matmul, model.dtype, scales

    def __call__(self, x_BTD, embedding_VD) -> jax.Array:
        x_BTD, head_DV = losses.unrounded(x_BTD, self._head(embedding_VD))
        return self._logits(self.scales.before_head(x_BTD), head_DV)

    def losses(
        self, x_BTD, embedding_VD, targets_BT, chunk: int = 0,
        terms: losses.LossTerms = losses.PLAIN,
    ) -> jax.Array:  # fmt: skip
        """`[B, T]`, from `chunk` positions at a time, see `losses.in_chunks`."""
        x_BTD, head_DV = self.scales.before_head(x_BTD), self._head(embedding_VD)

        def chunk_losses(x_BCD, targets_BC):
            return losses.trained_losses(self._logits(x_BCD, head_DV), targets_BC, terms)

        return losses.in_chunks(chunk_losses, x_BTD, targets_BT, chunk)

    def losses_and_hits(self, x_BTD, embedding_VD, targets_BT, chunk: int = 0):
        """(losses, whether the target is the likeliest token) of unrounded logits, `[B, T]`."""
        x_BTD, head_DV = losses.unrounded(x_BTD, self._head(embedding_VD))
        x_BTD = self.scales.before_head(x_BTD)

        def chunk_losses_and_hits(x_BCD, targets_BC):
            logits_BCV = self._logits(x_BCD, head_DV)
            hits_BC = logits_BCV.argmax(axis=-1) == targets_BC
            return losses.token_losses(logits_BCV, targets_BC), hits_BC

        return losses.in_chunks(chunk_losses_and_hits, x_BTD, targets_BT, chunk)

    def _head(self, embedding_VD) -> jax.Array:
        if self.head_DV is None:
            return embedding_VD.T
        head_DV = self.head_DV[...].astype(jnp.dtype(self.compute_dtype))
        return logical_axes.gathered(head_DV, "embed", "vocab")

    def _logits(self, x_BTD, head_DV):
        logits_BTV = ops.matmul(x_BTD, head_DV, self.matmul)
        return logical_axes.constrain(logits_BTV, "batch", "sequence", "vocab").astype(jnp.float32)
