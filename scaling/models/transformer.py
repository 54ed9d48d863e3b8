"""The trunk of every architecture: input part, residual blocks, final norm, output part.

Shapes: B batch, T positions, D model width, V vocabulary, L layers.

The blocks' parameters are stored stacked over a leading axis "layers", whether the blocks are then
scanned or unrolled: one set of arrays, one checkpoint layout, and the same initial values either
way.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import losses, ops, parameters, parametrization
from scaling.models.block import Block
from scaling.models.embed_and_head import InputPart, OutputPart, TokenHead, Tokens
from scaling.models.layers import block_norm

# What the backward pass keeps of a block; it computes the rest again.
REMAT = {
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.save_from_both_policies(  # its matrix products
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(ops.PRODUCT),
    ),
}


def language(model, *, vocab_size: int, seq_len: int, rngs: nnx.Rngs) -> Transformer:
    """Return the model from `tokens_BT` below `vocab_size` to float32 `logits_BTV`.

    `model` is the config's section with `matmul` and `attention` resolved; `seq_len` bounds T.
    """
    window = model.window if model.kind == "mlp" else 0
    return Transformer(
        model,
        inputs=functools.partial(
            Tokens, model, vocab_size=vocab_size, seq_len=seq_len, window=window
        ),
        outputs=functools.partial(TokenHead, model, vocab_size=vocab_size),
        rngs=rngs,
    )


class Transformer(nnx.Module):
    """Map what the input part takes to the logits of the output part, with blocks of any
    `model.kind`.

    `inputs` and `outputs` are called as `inputs(rngs=rngs)`: parameters are drawn from front to
    back.
    """

    def __init__(
        self,
        model,
        *,
        inputs: Callable[..., InputPart],
        outputs: Callable[..., OutputPart],
        rngs: nnx.Rngs,
    ):
        self.inputs = inputs(rngs=rngs)
        self.blocks = _stacked_blocks(model, self.inputs.grid, rngs)
        self.final_norm = block_norm(model)
        self.outputs = outputs(rngs=rngs)
        self.scales = parametrization.of(model)
        self.depth, self.scan, self.remat = model.depth, model.scan_layers, model.remat

    def __call__(self, inputs):
        x_BTD, shared, _ = self.hidden(inputs)
        return self.outputs(x_BTD, shared)

    def losses(self, inputs, targets, chunk: int = 0, terms: losses.LossTerms = losses.PLAIN):
        """Return cross-entropies in nats, with the gradient of the objective of `terms`.

        Logits exist for `chunk` positions at a time, 0 for all at once.
        """
        x_BTD, shared, balance = self.hidden(inputs)
        per_target = dataclasses.replace(terms, balance=0.0)
        values = self.outputs.losses(x_BTD, shared, targets, chunk, per_target)
        if terms.balance and balance is not None:
            # added to the loss of every target, and so once to their mean
            return losses.follow(values, values + terms.balance * balance)
        return values

    def losses_and_hits(self, inputs, targets, chunk: int = 0):
        """(losses as above, whether the target is the likeliest), one for each target."""
        assert isinstance(self.outputs, TokenHead), "labels have their logits, see `__call__`"
        x_BTD, shared, _ = self.hidden(inputs)
        return self.outputs.losses_and_hits(x_BTD, shared, targets, chunk)

    def last_logits(self, inputs):
        """Return the logits after the last position."""
        x_BTD, shared, _ = self.hidden(inputs)
        return self.outputs(x_BTD[:, -1:], shared)[:, 0]

    def hidden(self, inputs):
        """Return the output part's arguments, and the load-balance loss of all blocks or None."""
        x_BTD, shared = self.inputs(inputs)
        x_BTD, balance_L = self._trunk(x_BTD)
        # each block's share of the loss is that of its branch
        balance = None if balance_L is None else self.scales.branch(balance_L.sum())
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
    @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: parameters.LAYERS})
    def build(rngs):
        return Block(model, grid, rngs=rngs)

    return build(rngs)
