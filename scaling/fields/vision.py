"""Vision: images to classes, by patches as in ViT (Dosovitskiy et al. 2021).

A row is an image; D counts images.

Shapes: B images, H, W pixels, C channels.
"""

from __future__ import annotations

import jax.numpy as jnp

from scaling.fields import labelled

MIDDLE, SPREAD = 127.5, 63.75  # of the 256 levels, for every data set: inputs lie in [-2, 2]


def example(c):
    return labelled.example(c, jnp.uint8)


def prepare(c):
    return labelled.prepare(c, fill=0.0)


def scaled(x_BHWC):
    """Map the levels of pixels to numbers around 0."""
    return (x_BHWC.astype(jnp.float32) - MIDDLE) / SPREAD


model = labelled.model
inputs, loss, readings = labelled.ends(scaled)
metrics, details = labelled.metrics, labelled.details
