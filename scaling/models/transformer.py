"""The trunk of every architecture: input part, residual blocks, final norm, output part.

Shapes: B batch, T positions, D model width, V vocabulary, L layers.

The blocks' parameters are stored stacked over a leading axis "layers", whether the blocks are then
scanned or unrolled: one set of arrays, one checkpoint layout, and the same initial values either way.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import losses, ops
from scaling.models.block import Block
from scaling.models.embed_and_head import InputPart, OutputPart, TokenHead, Tokens
from scaling.models.layers import Norm

# What of a block is kept for the backward pass; the rest is computed again.
REMAT = {
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.save_from_both_policies(  # its matrix products
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(ops.PRODUCT),
    ),
}


def language(model, *, vocab_size: int, seq_len: int, rngs: nnx.Rngs) -> Transformer:
    """The model of `tokens_BT` (integers below `vocab_size`) whose float32 `logits_BTV` are of the next token.

    `model` is the config's `model` section with `matmul` and `attention` resolved, `seq_len` bounds T.
    """
    window = model.window if model.kind == "mlp" else 0
    inputs, outputs = Tokens(vocab_size, seq_len, window), TokenHead(vocab_size)
    return Transformer(model, inputs=inputs, outputs=outputs, rngs=rngs)


class Transformer(nnx.Module):
    """Maps what `inputs` takes to the logits of `outputs`, see `parts.py`; of any `model.kind`, see `block.py`."""

    def __init__(self, model, *, inputs: InputPart, outputs: OutputPart, rngs: nnx.Rngs):
        dtype = jnp.dtype(model.param_dtype)
        self.inputs, self.outputs = inputs, outputs
        self._own(inputs.params(model, rngs))
        self.blocks = _stacked_blocks(model, inputs.grid, rngs)
        self.final_norm = Norm(
            model.width, "embed", kind=model.norm, eps=model.norm_eps, dtype=dtype
        )
        self._own(outputs.params(model, rngs))
        self.depth, self.scan, self.remat = model.depth, model.scan_layers, model.remat
        self.compute_dtype = model.dtype
        self.matmul = model.matmul

    def __call__(self, inputs):
        x_BTD, shared, _ = self._hidden(inputs)
        return self.outputs(self, x_BTD, shared)

    def losses(self, inputs, targets, chunk: int = 0, terms: losses.LossTerms = losses.PLAIN):
        """Cross-entropy of the targets in nats, one for each; where `chunk` is not 0 of that many positions at a
        time, with the gradient of the objective of `terms`, see `losses.py`."""
        x_BTD, shared, balance = self._hidden(inputs)
        each = dataclasses.replace(terms, balance=0.0)
        found = self.outputs.losses(self, x_BTD, shared, targets, chunk, each)
        if terms.balance and balance is not None:
            # added to the loss of every target, and so once to their mean
            return losses.followed(found, found + terms.balance * balance)
        return found

    def losses_and_hits(self, inputs, targets, chunk: int = 0):
        """(losses as above, whether the target is the likeliest), one for each target."""
        assert isinstance(self.outputs, TokenHead), "labels have their logits, see `__call__`"
        x_BTD, shared, _ = self._hidden(inputs)
        return self.outputs.losses_and_hits(self, x_BTD, shared, targets, chunk)

    def last_logits(self, inputs):
        """Logits after the last position."""
        x_BTD, shared, _ = self._hidden(inputs)
        return self.outputs(self, x_BTD[:, -1:], shared)[:, 0]

    def _own(self, params):
        for name, param in params.items():
            setattr(self, name, param)

    def _hidden(self, inputs):
        """What the output part gets, and the load-balance loss of all blocks or None."""
        x_BTD, shared = self.inputs(self, inputs)
        x_BTD, balance_L = self._trunk(x_BTD)
        balance = None if balance_L is None else balance_L.sum()
        return self.final_norm(x_BTD), shared, balance

    def _trunk(self, x_BTD):
        graph, stacked = nnx.split(self.blocks)

        def apply(x_BTD, layer):
            return nnx.merge(graph, layer)(x_BTD)

        if self.remat != "none":
            apply = jax.checkpoint(apply, policy=REMAT[self.remat])
        if self.scan:
            return jax.lax.scan(apply, x_BTD, stacked)
        leaves, tree = jax.tree.flatten(stacked)
        # lax.split, because its transpose is one concatenation and not a sum of padded slices
        split = [jax.lax.split(leaf, (1,) * self.depth, axis=0) for leaf in leaves]
        balances = []
        for layer in zip(*split, strict=True):
            x_BTD, balance = apply(x_BTD, jax.tree.unflatten(tree, [leaf[0] for leaf in layer]))
            balances.append(balance)
        return x_BTD, None if balances[0] is None else jnp.stack(balances)


def _stacked_blocks(model, grid: tuple[int, int] | None, rngs: nnx.Rngs) -> Block:
    @nnx.split_rngs(splits=model.depth)
    @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: "layers"})
    def build(rngs):
        return Block(model, grid, rngs=rngs)

    return build(rngs)
