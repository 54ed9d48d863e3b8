"""The ends of a model of grids, images or spectrograms: patches to x_BTD, and the mean of x_BTD to logits of labels.

Shapes: B batch, H rows, W columns, C channels, T patches, P numbers of a patch, D model width, Y classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import logical_axes, losses, ops
from scaling.models.embed_and_head import Params
from scaling.models.layers import normal_param


@dataclass(frozen=True)
class Patches:
    """`x_BHWC` cut into patches, each multiplied by one matrix, plus positions where they are learned."""

    shape: tuple[int, int, int]  # H, W, C
    patch: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        return self.shape[0] // self.patch[0], self.shape[1] // self.patch[1]

    def params(self, model, rngs: nnx.Rngs) -> Params:
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        T, P = math.prod(self.grid), math.prod(self.patch) * self.shape[2]
        learned = model.positions == "learned"
        return {
            "patch_PD": normal_param(rngs, (P, D), 1 / math.sqrt(P), ("patch", "embed"), dtype),
            "positions_TD": normal_param(rngs, (T, D), 0.02, ("positions", "embed"), dtype)
            if learned
            else None,
        }

    def __call__(self, net, x_BHWC):
        (rows, columns), (p, q), dtype = self.grid, self.patch, jnp.dtype(net.compute_dtype)
        x = x_BHWC.astype(dtype).reshape(-1, rows, p, columns, q, self.shape[2])
        x_BTP = jnp.moveaxis(x, 2, 3).reshape(len(x), rows * columns, -1)
        patch_PD = logical_axes.gathered(net.patch_PD[...].astype(dtype), "patch", "embed")
        x_BTD = ops.matmul(x_BTP, patch_PD, net.matmul)
        if net.positions_TD is not None:
            x_BTD += logical_axes.gathered(
                net.positions_TD[...].astype(dtype), "positions", "embed"
            )
        return logical_axes.constrain(x_BTD, "batch", "sequence", "width"), None


@dataclass(frozen=True)
class LabelHead:
    """Logits of labels from the mean over positions."""

    classes: int

    def params(self, model, rngs: nnx.Rngs) -> Params:
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        names = ("embed", "classes")
        head_DY = normal_param(rngs, (D, self.classes), 1 / math.sqrt(D), names, dtype)
        return {"head_DY": head_DY}

    def __call__(self, net, x_BTD, shared) -> jax.Array:
        """`logits_BY`"""
        dtype = jnp.dtype(net.compute_dtype)
        head_DY = logical_axes.gathered(net.head_DY[...].astype(dtype), "embed", "classes")
        x_BD = x_BTD.astype(jnp.float32).mean(axis=1).astype(dtype)
        return ops.matmul(x_BD, head_DY, net.matmul).astype(jnp.float32)

    def losses(self, net, x_BTD, shared, targets, chunk: int, terms: losses.LossTerms) -> jax.Array:
        """`[B]` of targets `{"y": [B]}`, or with "y2" and "mix" those of mixup, whose loss is of both labels."""
        logits_BY = self(net, x_BTD, shared)
        if "mix" not in targets:
            return losses.trained_losses(logits_BY, targets["y"], terms)
        mixed = targets["y"], targets["y2"], targets["mix"]
        found_B = losses.mixed_losses(logits_BY, *mixed)
        if terms == losses.PLAIN:
            return found_B
        return losses.followed(found_B, losses.mixed_losses(logits_BY, *mixed, terms))
