"""The two ends of a model: what makes x_BTD of a batch, and what makes logits and losses of the last x_BTD.

Shapes: B batch, T positions, D model width, V vocabulary, J tokens of a window.

A part holds sizes alone. Its parameters are the model's own attributes, under the names that `params` gives them, and
a part reads them there: a checkpoint knows no parts, and a head may be an embedding. Initialisation as in `layers.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import logical_axes, losses, ops
from scaling.models.layers import normal_param

Params = dict[str, nnx.Param | None]


class InputPart(Protocol):
    """The front end. Parts are frozen dataclasses, compared by their sizes."""

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of positions, row by row; None for a causal sequence."""

    def params(self, model, rngs: nnx.Rngs) -> Params:
        """The parameters, by name; `model` is the config's section."""

    def __call__(self, net, inputs) -> tuple[jax.Array, Any]:
        """(x_BTD, what the output part may use of it), with the parameters of `net`."""


class OutputPart(Protocol):
    """The back end, after the final norm."""

    def params(self, model, rngs: nnx.Rngs) -> Params:
        """As the input part's; drawn after all other parameters."""

    def __call__(self, net, x_BTD, shared) -> jax.Array:
        """float32 logits; `shared` is from the input part."""

    def losses(self, net, x_BTD, shared, targets, chunk: int, terms: losses.LossTerms) -> jax.Array:
        """Cross-entropy of the targets in nats, with the gradient of the objective of `terms`."""


def looked_up(table_VD: jax.Array, tokens_BT: jax.Array) -> jax.Array:
    """Rows of a table; the gradient of a row, a sum over all of its uses, adds up in float32."""
    return table_VD[tokens_BT] if table_VD.dtype == jnp.float32 else _looked_up(table_VD, tokens_BT)


@jax.custom_vjp
def _looked_up(table_VD, tokens_BT):
    return table_VD[tokens_BT]


def _looked_up_forward(table_VD, tokens_BT):
    return table_VD[tokens_BT], (tokens_BT, table_VD[:, :0])


def _looked_up_backward(kept, g_BTD):
    tokens_BT, like_V0 = kept
    sums_VD = jnp.zeros((like_V0.shape[0], g_BTD.shape[-1]), jnp.float32)
    return sums_VD.at[tokens_BT].add(g_BTD.astype(jnp.float32)).astype(like_V0.dtype), None


_looked_up.defvjp(_looked_up_forward, _looked_up_backward)


@dataclass(frozen=True)
class Tokens:
    """`tokens_BT` below `vocab_size` to their embeddings, of the last `window` tokens where that is not 0:

      x_t = sum_j W_j e_{t - (J - 1) + j}, e = 0 before the first token

    the concatenation of J embeddings times one matrix (Bengio et al. 2003).
    """

    vocab_size: int
    seq_len: int  # bounds T
    window: int = 0  # J

    @property
    def grid(self) -> None:
        return None

    def params(self, model, rngs: nnx.Rngs) -> Params:
        D, J, dtype = model.width, self.window, jnp.dtype(model.param_dtype)
        std = 1 / math.sqrt(D)
        named: Params = {
            "embedding_VD": normal_param(
                rngs, (self.vocab_size, D), std, ("vocab", "embed"), dtype
            ),
            "positions_TD": normal_param(
                rngs, (self.seq_len, D), std, ("positions", "embed"), dtype
            )
            if model.positions == "learned"
            else None,
        }
        if J:
            names = ("window", "embed", "width")
            named["w_JDD"] = normal_param(rngs, (J, D, D), 1 / math.sqrt(J * D), names, dtype)
        return named

    def __call__(self, net, tokens_BT):
        """(x_BTD, embedding_VD)"""
        dtype = jnp.dtype(net.compute_dtype)
        embedding_VD = logical_axes.gathered(net.embedding_VD[...].astype(dtype), "vocab", "embed")
        x_BTD = looked_up(embedding_VD, tokens_BT)
        if self.window:
            w_JDD = logical_axes.gathered(net.w_JDD[...].astype(dtype), "window", "embed", "width")
            x_BTD = ops.matmul(self._windows(x_BTD), w_JDD.reshape(-1, x_BTD.shape[-1]), net.matmul)
        if net.positions_TD is not None:
            positions_TD = logical_axes.gathered(
                net.positions_TD[...].astype(dtype), "positions", "embed"
            )
            x_BTD = x_BTD + positions_TD[: tokens_BT.shape[1]]
        return logical_axes.constrain(x_BTD, "batch", "sequence", "width"), embedding_VD

    def _windows(self, x_BTD):
        """Of each position the last J, side by side."""
        J, T = self.window, x_BTD.shape[1]
        x_BTD = logical_axes.constrain(x_BTD, "batch", "keys", "width")
        padded = jnp.pad(x_BTD, ((0, 0), (J - 1, 0), (0, 0)))
        return jnp.concatenate([padded[:, j : j + T] for j in range(J)], axis=-1)


@dataclass(frozen=True)
class TokenHead:
    """Logits of the next token at each position, by a matrix of its own or by the embedding of `Tokens`."""

    vocab_size: int

    def params(self, model, rngs: nnx.Rngs) -> Params:
        D, V, dtype = model.width, self.vocab_size, jnp.dtype(model.param_dtype)
        std = 1 / math.sqrt(D)
        head_DV = (
            None if model.tied_head else normal_param(rngs, (D, V), std, ("embed", "vocab"), dtype)
        )
        return {"head_DV": head_DV}

    def __call__(self, net, x_BTD, shared) -> jax.Array:
        return _logits(net, x_BTD, self._head(net, shared))

    def losses(
        self, net, x_BTD, shared, targets_BT, chunk: int = 0, terms: losses.LossTerms = losses.PLAIN
    ) -> jax.Array:
        """`[B, T]`, of `chunk` positions at a time, see `losses.in_chunks`."""
        head_DV = self._head(net, shared)

        def of(x_BCD, targets_BC):
            return losses.trained_losses(_logits(net, x_BCD, head_DV), targets_BC, terms)

        return losses.in_chunks(of, x_BTD, targets_BT, chunk)

    def losses_and_hits(self, net, x_BTD, shared, targets_BT, chunk: int = 0):
        """(losses, whether the target is the likeliest token), each `[B, T]`."""
        head_DV = self._head(net, shared)

        def of(x_BCD, targets_BC):
            logits_BCV = _logits(net, x_BCD, head_DV)
            hits_BC = logits_BCV.argmax(axis=-1) == targets_BC
            return losses.token_losses(logits_BCV, targets_BC), hits_BC

        return losses.in_chunks(of, x_BTD, targets_BT, chunk)

    def _head(self, net, embedding_VD) -> jax.Array:
        if net.head_DV is None:
            return embedding_VD.T
        dtype = jnp.dtype(net.compute_dtype)
        return logical_axes.gathered(net.head_DV[...].astype(dtype), "embed", "vocab")


def _logits(net, x_BTD, head_DV):
    logits_BTV = ops.matmul(x_BTD, head_DV, net.matmul)
    return logical_axes.constrain(logits_BTV, "batch", "sequence", "vocab").astype(jnp.float32)
