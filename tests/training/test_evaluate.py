"""Held-out loss: means, standard errors, bits per byte, and padding that does not count."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.fields import registry as fields
from scaling.fields.field import HeldOutRows
from scaling.models.losses import token_losses
from scaling.training.evaluate import evaluate


def test_token_losses_are_negative_log_probabilities():
    logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]))
    losses = token_losses(logits, jnp.array([[0, 1]]))
    np.testing.assert_allclose(losses, [[-math.log(0.5), -math.log(0.1)]], rtol=1e-6)


def test_mean_error_and_bits_per_byte_with_a_partial_batch():
    tokens = np.zeros((5, 4), np.uint8)
    tokens[:, 0] = [1, 2, 3, 4, 5]  # the loss of a sequence: three targets, its number each
    byte_lengths = np.full(256, 2)

    def readings(batch):
        assert batch.shape == (2, 4)
        loss_RB = np.stack([3.0 * batch[:, 0], 6.0 * batch[:, 0]])
        return {"loss": loss_RB, "correct": np.stack([batch[:, 0] > 3, batch[:, 0] > 9])}

    rows = HeldOutRows(tokens, 3, bytes_N=byte_lengths[tokens[:, 1:]].sum(axis=1))
    found, other = evaluate(readings, rows, fields.of("language"), batch=2)
    assert found.metrics["accuracy"].value == pytest.approx(2 / 15)
    assert found.metrics["perplexity"].value == pytest.approx(math.exp(3.0))
    assert other.metrics["accuracy"].value == 0
    assert other.loss == pytest.approx(6.0)
    assert found.loss == pytest.approx(3.0)
    assert found.loss_se == pytest.approx(np.std([1, 2, 3, 4, 5], ddof=1) / math.sqrt(5))
    assert found.bits_per_byte == pytest.approx(3.0 / 2 / math.log(2))
    assert found.tokens == 15


def test_no_step_is_queued_behind_one_that_was_not_read():
    """Two CPU devices can deadlock over the collectives of two steps."""
    unread = []

    class Reading:
        def __init__(self, values):
            self.values = values
            unread.append(self)

        def __array__(self, dtype=None, copy=None):
            unread.remove(self)
            return self.values

    def readings(batch):
        assert not unread
        return {"loss": Reading(batch[None, :, 0] * 1.0), "correct": np.zeros((1, 2))}

    rows = HeldOutRows(np.ones((7, 4), np.uint8), 3)
    assert evaluate(readings, rows, fields.of("language"), batch=2)[0].loss == pytest.approx(1 / 3)
