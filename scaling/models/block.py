"""One residual block: a mixer over positions, then an MLP or a mixture of experts.

Shapes: B batch, T positions, D model width.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
from flax import nnx

from scaling.models import logical_axes, parametrization
from scaling.models.conv import DepthwiseConv
from scaling.models.experts import Experts
from scaling.models.layers import MLP, Attention, block_norm
from scaling.models.recurrent import LRU, LSTM


def _call(mixer, x_BTD):
    return mixer(x_BTD)


class Block(nnx.Module):
    """Pre-norm: x + mixer(norm(x)), then x + mlp(norm(x)).

    The mixer by `model.kind`: transformer, attention; cnn, a depthwise convolution; lstm and lru,
    that recurrence; mlp, none and its half is left out. Positions are a causal sequence, or with
    `grid` the (rows, columns) of an image, row by row: there attention sees all of them, a
    convolution both axes.
    """

    def __init__(self, model, grid: tuple[int, int] | None = None, *, rngs: nnx.Rngs):
        self.kind, self.scales = model.kind, parametrization.of(model)
        if self.kind == "transformer":
            self.attention_norm = block_norm(model)
            self.attention = Attention(model, causal=grid is None, rngs=rngs)
        elif self.kind != "mlp":
            self.mixer_norm = block_norm(model)
            self.mixer = _mixer(model, grid, rngs)
        self.mlp_norm = block_norm(model)
        self.routed = model.experts > 0
        if self.routed:
            self.experts = Experts(model, rngs=rngs)
        else:
            self.mlp = MLP(model, rngs=rngs)

    def __call__(self, x_BTD, mixed: Callable = _call) -> tuple[jax.Array, jax.Array | None]:
        """(x_BTD, the load-balance loss of its experts or None).

        `mixed(mixer, x_BTD)` returns the mixer's output; decoding gives it a cache.
        """
        if self.kind == "transformer":
            x_BTD = self._add(x_BTD, mixed(self.attention, self.attention_norm(x_BTD)))
        elif self.kind != "mlp":
            x_BTD = self._add(x_BTD, mixed(self.mixer, self.mixer_norm(x_BTD)))
        if not self.routed:
            return self._add(x_BTD, self.mlp(self.mlp_norm(x_BTD))), None
        y_BTD, balance = self.experts(self.mlp_norm(x_BTD))
        return self._add(x_BTD, y_BTD), balance

    def _add(self, x_BTD, y_BTD):
        """Return the residual stream, whole in width, with the output of a half of the block."""
        return x_BTD + logical_axes.constrain(
            self.scales.branch(y_BTD), "batch", "sequence", "width"
        )


def _mixer(model, grid, rngs: nnx.Rngs) -> nnx.Module:
    if model.kind == "cnn":
        return DepthwiseConv(model, grid, rngs=rngs)
    return {"lstm": LSTM, "lru": LRU}[model.kind](model, rngs=rngs)
