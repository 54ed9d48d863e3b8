"""Speech: log-mel spectrograms to classes, by patches as in AST (Gong et al. 2021).

A row is a segment; D counts segments.

Shapes: B segments, H frames, W mel bands, C = 1.
"""

from __future__ import annotations

import jax.numpy as jnp

from scaling.data import mel
from scaling.fields import labelled


def example(c):
    return labelled.example(c, jnp.float32)


def prepare(c):
    return labelled.prepare(c, fill=mel.FLOOR)


def scaled(x_BHWC):
    """Return each segment with mean 0 and variance 1, which removes its loudness."""
    centred_BHWC = x_BHWC - x_BHWC.mean(axis=(1, 2, 3), keepdims=True)
    variance_B111 = jnp.square(centred_BHWC).mean(axis=(1, 2, 3), keepdims=True)
    return centred_BHWC / jnp.sqrt(variance_B111 + 1e-5)


model = labelled.model
inputs, loss, readings = labelled.ends(scaled)
metrics, details = labelled.metrics, labelled.details
