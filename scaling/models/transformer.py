"""The decoder-only Transformer.

Shapes: B batch, T positions, D model width, V vocabulary, L layers.

The blocks' parameters are stored stacked over a leading axis "layers", whether the blocks are then
scanned or unrolled: one set of arrays, one checkpoint layout, and the same initial values either way.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import axes, losses, ops
from scaling.models.layers import Block, Norm, normal_param

# What of a block is kept for the backward pass; the rest is computed again.
REMAT = {
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # its matrix products
}


class Transformer(nnx.Module):
    """Maps `tokens_BT` (integers below `vocab_size`) to float32 `logits_BTV`.

    `model` is the config's `model` section with `matmul` and `attention` resolved, `seq_len` bounds T.
    """

    def __init__(self, model, *, vocab_size: int, seq_len: int, rngs: nnx.Rngs):
        D, V = model.width, vocab_size
        dtype = jnp.dtype(model.param_dtype)
        std = 1 / math.sqrt(D)
        self.embedding_VD = normal_param(rngs, (V, D), std, ("vocab", "embed"), dtype)
        self.positions_TD = (
            normal_param(rngs, (seq_len, D), std, ("positions", "embed"), dtype)
            if model.positions == "learned"
            else None
        )
        self.blocks = _stacked_blocks(model, rngs)
        self.final_norm = Norm(D, "embed", kind=model.norm, eps=model.norm_eps, dtype=dtype)
        self.head_DV = (
            None if model.tied_head else normal_param(rngs, (D, V), std, ("embed", "vocab"), dtype)
        )
        self.depth, self.scan, self.remat = model.depth, model.scan_layers, model.remat
        self.compute_dtype = model.dtype
        self.matmul = model.matmul

    def __call__(self, tokens_BT):
        x_BTD, head_DV = self._hidden(tokens_BT)
        return self._logits(x_BTD, head_DV)

    def losses(self, tokens_BT, targets_BT, chunk: int = 0, terms: losses.Terms = losses.PLAIN):
        """Cross-entropy of the targets, `[B, T]` in nats; of `chunk` positions at a time, with the gradient
        of the objective of `terms`, see `losses.py`."""
        x_BTD, head_DV = self._hidden(tokens_BT)
        return losses.in_chunks(lambda x: self._logits(x, head_DV), x_BTD, targets_BT, chunk, terms)

    def _hidden(self, tokens_BT):
        """What the head multiplies, and the head."""
        dtype = jnp.dtype(self.compute_dtype)
        embedding_VD = axes.gathered(self.embedding_VD[...].astype(dtype), "vocab", "embed")
        x_BTD = embedding_VD[tokens_BT]
        if self.positions_TD is not None:
            positions_TD = axes.gathered(self.positions_TD[...].astype(dtype), "positions", "embed")
            x_BTD = x_BTD + positions_TD[: tokens_BT.shape[1]]
        x_BTD = axes.constrain(x_BTD, "batch", "sequence", "width")
        x_BTD = self.final_norm(self._trunk(x_BTD))
        if self.head_DV is None:
            head_DV = embedding_VD.T
        else:
            head_DV = axes.gathered(self.head_DV[...].astype(dtype), "embed", "vocab")
        return x_BTD, head_DV

    def _logits(self, x_BTD, head_DV):
        logits_BTV = ops.matmul(x_BTD, head_DV, self.matmul)
        return axes.constrain(logits_BTV, "batch", "sequence", "vocab").astype(jnp.float32)

    def _trunk(self, x_BTD):
        graph, stacked = nnx.split(self.blocks)

        def apply(x_BTD, layer):
            return nnx.merge(graph, layer)(x_BTD)

        if self.remat != "none":
            apply = jax.checkpoint(apply, policy=REMAT[self.remat])
        if self.scan:
            return jax.lax.scan(lambda x, layer: (apply(x, layer), None), x_BTD, stacked)[0]
        leaves, tree = jax.tree.flatten(stacked)
        # lax.split, because its transpose is one concatenation and not a sum of padded slices
        split = [jax.lax.split(leaf, (1,) * self.depth, axis=0) for leaf in leaves]
        for layer in zip(*split, strict=True):
            x_BTD = apply(x_BTD, jax.tree.unflatten(tree, [leaf[0] for leaf in layer]))
        return x_BTD


def _stacked_blocks(model, rngs: nnx.Rngs) -> Block:
    @nnx.split_rngs(splits=model.depth)
    @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: "layers"})
    def build(rngs):
        return Block(model, rngs=rngs)

    return build(rngs)
