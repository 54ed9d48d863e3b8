"""Held-out loss: means, standard errors, bits per byte, and padding that does not count."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.evaluate import evaluate
from scaling.models.losses import token_losses


def test_token_losses_are_negative_log_probabilities():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
    losses = token_losses(logits, jnp.array([[0, 1]]))
    np.testing.assert_allclose(losses, [[-math.log(0.5), -math.log(0.1)]], rtol=1e-6)


def test_mean_error_and_bits_per_byte_with_a_partial_batch():
    tokens = np.zeros((5, 4), np.uint8)
    tokens[:, 0] = [1, 2, 3, 4, 5]  # the loss of a sequence: three targets, its number each
    byte_lengths = np.full(256, 2)

    def sequence_losses(batch):
        assert batch.shape == (2, 4)
        return np.stack([3.0 * batch[:, 0], 6.0 * batch[:, 0]])

    found, other = evaluate(sequence_losses, tokens, byte_lengths, batch=2)
    assert other.loss == pytest.approx(6.0)
    assert found.loss == pytest.approx(3.0)
    assert found.loss_se == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1) / math.sqrt(5))
    assert found.bits_per_byte == pytest.approx(3.0 / 2 / math.log(2))
    assert found.tokens == 15
