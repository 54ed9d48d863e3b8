"""Language: loss, perplexity, bits per byte and accuracy of tokens, with sequences as draws.

All are ratios of sums over sequences, their errors the delta method's.

Shapes: N sequences.
"""

from __future__ import annotations

import math

import numpy as np

from scaling.metrics.metric import Metric, draws, finite_values
from scaling.utils.errors import UserError

MOST = math.log(np.finfo(np.float64).max)


def language(loss_N, tokens_N, bytes_N=None, correct_N=None, groups_N=None) -> dict[str, Metric]:
    """loss (nats per token), perplexity (its exponential), and where given bits_per_byte and accuracy.

    Sums over each sequence: of losses in nats, of tokens that were predicted, of the bytes of those tokens, and of
    tokens predicted rightly. `groups_N` names documents where several sequences come from one.

    A loss that is too large has a perplexity of inf. Raises UserError where sums have other lengths, are not finite, or
    where there are no tokens or bytes at all.
    """
    N = len(loss_N)
    over = draws(groups_N, N)

    def ratio(names: str, above, below) -> tuple[float, np.ndarray]:
        above_N, below_N = (
            finite_values(n, v, N) for n, v in zip(names.split(), (above, below), strict=True)
        )
        total = float(below_N.sum())
        if not total > 0 or (below_N < 0).any():
            name = names.split()[1]
            raise UserError(
                f"metrics: {name} of {N} sequences sum to {total:g}, smallest {below_N.min():g}; none may be "
                "negative and some must be positive"
            )
        value = float(above_N.sum()) / total
        return value, (above_N - value * below_N) * (N / total)

    loss, influence_N = ratio("losses tokens", loss_N, tokens_N)
    found = {"loss": over.metric(loss, influence_N)}
    if loss > MOST:
        found["perplexity"] = Metric(math.inf, math.inf, over.count)
    else:
        found["perplexity"] = over.metric(math.exp(loss), influence_N * math.exp(loss))
    if bytes_N is not None:
        per_byte, influence_N = ratio("losses bytes", loss_N, bytes_N)
        found["bits_per_byte"] = over.metric(per_byte / math.log(2), influence_N / math.log(2))
    if correct_N is not None:
        found["accuracy"] = over.metric(*ratio("hits tokens", correct_N, tokens_N))
    return found
