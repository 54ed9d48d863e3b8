"""Vision: images to classes, by patches as in ViT (Dosovitskiy et al. 2021). A row is an image; D counts images.

Shapes: B images, H, W pixels, C channels.
"""

from __future__ import annotations

import jax.numpy as jnp

from scaling.fields import labelled

MIDDLE, SPREAD = 127.5, 63.75  # of the 256 levels, whatever the data set: inputs lie in [-2, 2]


def example(c):
    return labelled.example(c, jnp.uint8)


def prepare(c):
    return labelled.prepare(c, fill=0.0)


def loss(model, batch, chunk, terms):
    return labelled.loss(model, scaled(batch["x"]), batch, terms)


def readings(model, batch, chunk):
    return labelled.readings(model, scaled(batch["x"]), batch)


def scaled(x_BHWC):
    """Levels of a pixel as numbers around 0."""
    return (x_BHWC.astype(jnp.float32) - MIDDLE) / SPREAD


model = labelled.model
metrics, details = labelled.metrics, labelled.details
