"""Held-out loss: the same tokens for every run of a sweep, with a standard error.

Shapes: R runs evaluated at once, N sequences, B sequences per evaluation step, T positions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """Held-out loss of one set of parameters."""

    loss: float  # mean nats per token
    loss_se: float  # standard error of that mean, over sequences
    bits_per_byte: float
    tokens: int


def evaluate(
    sequence_losses, tokens_NT1: np.ndarray, byte_lengths: np.ndarray, batch: int
) -> list[HeldOut]:
    """Mean loss over all targets of `tokens_NT1`, for each of R runs.

    `sequence_losses` maps `[batch, T + 1]` tokens to the summed loss of each sequence `[R, batch]`; a
    last partial batch is padded and its padding dropped. The standard error treats sequences, not
    tokens, as independent draws.
    """
    count, width = len(tokens_NT1), tokens_NT1.shape[1] - 1
    pending = []
    for start in range(0, count, batch):
        part = tokens_NT1[start : start + batch]
        padded = np.resize(part, (batch, width + 1))
        pending.append((sequence_losses(padded), len(part)))
    parts = [np.asarray(x, np.float64)[:, :n] for x, n in pending]
    n_bytes = int(byte_lengths[tokens_NT1[:, 1:]].sum())
    return [
        _held_out(losses_N, n_bytes, width) for losses_N in np.concatenate(parts, axis=1) / width
    ]


def _held_out(losses_N: np.ndarray, n_bytes: int, width: int) -> HeldOut:
    count, loss = len(losses_N), float(losses_N.mean())
    spread = float(losses_N.std(ddof=1)) if count > 1 else math.nan
    return HeldOut(
        loss=loss,
        loss_se=spread / math.sqrt(count),
        bits_per_byte=loss * count * width / n_bytes / math.log(2),
        tokens=count * width,
    )
