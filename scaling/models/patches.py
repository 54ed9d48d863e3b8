"""The two ends of a model of grids (images, spectrograms): patches, and a head over labels.

Shapes: B batch, H rows, W columns, C channels, T patches, P numbers of a patch, D model width,
Y classes.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import logical_axes, losses, ops, parametrization
from scaling.models.parameters import normal_param


class Patches(nnx.Module):
    """`x_BHWC` cut into patches, each times one matrix, plus learned positions where configured."""

    def __init__(
        self, model, *, shape: tuple[int, int, int], patch: tuple[int, int], rngs: nnx.Rngs
    ):
        """`shape` is (H, W, C) of an example, `patch` (rows, columns) of a patch."""
        self.shape, self.patch = shape, patch
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        T, P = math.prod(self.grid), math.prod(patch) * shape[2]
        names = ("patch", "embed")
        self.patch_PD = normal_param(rngs, (P, D), 1 / math.sqrt(P), names, dtype, matrix=None)
        self.positions_TD = (
            normal_param(rngs, (T, D), 0.02, ("positions", "embed"), dtype, matrix=None)
            if model.positions == "learned"
            else None
        )
        self.matmul, self.compute_dtype = model.matmul, model.dtype

    @property
    def grid(self) -> tuple[int, int]:
        return self.shape[0] // self.patch[0], self.shape[1] // self.patch[1]

    def __call__(self, x_BHWC):
        """(x_BTD, None)"""
        (rows, columns), (p, q), dtype = self.grid, self.patch, jnp.dtype(self.compute_dtype)
        x = x_BHWC.astype(dtype).reshape(-1, rows, p, columns, q, self.shape[2])
        x_BTP = jnp.moveaxis(x, 2, 3).reshape(len(x), rows * columns, -1)
        patch_PD = logical_axes.gathered(self.patch_PD[...].astype(dtype), "patch", "embed")
        x_BTD = ops.matmul(x_BTP, patch_PD, self.matmul)
        if self.positions_TD is not None:
            x_BTD += logical_axes.gathered(
                self.positions_TD[...].astype(dtype), "positions", "embed"
            )
        return logical_axes.constrain(x_BTD, "batch", "sequence", "width"), None


class LabelHead(nnx.Module):
    """Logits of labels from the mean over positions."""

    def __init__(self, model, *, classes: int, rngs: nnx.Rngs):
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        self.scales = parametrization.of(model)
        self.head_DY = normal_param(
            rngs, (D, classes), self.scales.end_std, ("embed", "classes"), dtype, matrix=None
        )
        self.matmul, self.compute_dtype = model.matmul, model.dtype

    def __call__(self, x_BTD, shared) -> jax.Array:
        """`logits_BY` for evaluation, see `losses.unrounded`."""
        return ops.matmul(*losses.unrounded(*self._factors(x_BTD)), self.matmul)

    def _factors(self, x_BTD) -> tuple[jax.Array, jax.Array]:
        """Return x_BD and head_DY, whose product are the logits."""
        dtype = jnp.dtype(self.compute_dtype)
        head_DY = logical_axes.gathered(self.head_DY[...].astype(dtype), "embed", "classes")
        x_BD = x_BTD.astype(jnp.float32).mean(axis=1)
        return self.scales.before_head(x_BD).astype(dtype), head_DY

    def losses(self, x_BTD, shared, targets, chunk: int, terms: losses.LossTerms) -> jax.Array:
        """`[B]` of targets `{"y": [B]}`; with "y2" and "mix" the mixup loss of both labels."""
        logits_BY = ops.matmul(*self._factors(x_BTD), self.matmul).astype(jnp.float32)
        if "mix" not in targets:
            return losses.trained_losses(logits_BY, targets["y"], terms)
        mixed = targets["y"], targets["y2"], targets["mix"]
        losses_B = losses.mixed_losses(logits_BY, *mixed)
        if terms == losses.PLAIN:
            return losses_B
        return losses.follow(losses_B, losses.mixed_losses(logits_BY, *mixed, terms))
