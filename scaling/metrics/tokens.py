"""Compute language metrics: loss, perplexity, bits per byte and accuracy, with sequences as draws.

All are ratios of sums over sequences, with standard errors by the delta method.

Shapes: N sequences.
"""

from __future__ import annotations

import math

import numpy as np

from scaling.metrics.metric import Metric, draws, finite_values
from scaling.utils.errors import UserError

MAX_LOSS = math.log(np.finfo(np.float64).max)  # of a finite perplexity


def language(loss_N, tokens_N, bytes_N=None, correct_N=None, groups_N=None) -> dict[str, Metric]:
    """Return loss (nats per token), perplexity (its exponential), bits_per_byte and accuracy.

    The inputs are sums over each sequence: losses in nats, predicted tokens, the bytes of those
    tokens, and correctly predicted tokens. The last two are optional. `groups_N` names the document
    of each sequence if several sequences share one.

    The perplexity of a loss above MAX_LOSS is inf. Raises UserError if sums differ in length, are
    not finite, or have no tokens or bytes.
    """
    N = len(loss_N)
    sample = draws(groups_N, N)

    def ratio(names: str, above, below) -> tuple[float, np.ndarray]:
        above_N, below_N = (
            finite_values(n, v, N) for n, v in zip(names.split(), (above, below), strict=True)
        )
        total = float(below_N.sum())
        if not total > 0 or (below_N < 0).any():
            name = names.split()[1]
            raise UserError(
                f"metrics: {name} of {N} sequences sum to {total:g}, smallest {below_N.min():g}; "
                "none may be negative, and one must be positive"
            )
        value = float(above_N.sum()) / total
        return value, (above_N - value * below_N) * (N / total)

    loss, influence_N = ratio("losses tokens", loss_N, tokens_N)
    metrics = {"loss": sample.metric(loss, influence_N)}
    if loss > MAX_LOSS:
        metrics["perplexity"] = Metric(math.inf, math.inf, sample.count)
    else:
        metrics["perplexity"] = sample.metric(math.exp(loss), influence_N * math.exp(loss))
    if bytes_N is not None:
        per_byte, influence_N = ratio("losses bytes", loss_N, bytes_N)
        metrics["bits_per_byte"] = sample.metric(per_byte / math.log(2), influence_N / math.log(2))
    if correct_N is not None:
        metrics["accuracy"] = sample.metric(*ratio("hits tokens", correct_N, tokens_N))
    return metrics
