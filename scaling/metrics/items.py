"""Compute recommendation metrics from the rank of the next item among all items.

Ranks are among all items, never a sample: sampled metrics rank models differently (Krichene &
Rendle 2020).

Shapes: N examples, I items (or classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.metrics.metric import Metric, draws, finite_values
from scaling.utils.errors import UserError


def ranks(score_NI, target_N) -> np.ndarray:
    """Return the rank of each target, from 1: the number of items that score at least as much.

    Ties count against the target. Excluded items have the score -inf. Raises UserError if a score
    is NaN or a target is not an item.
    """
    score_NI, target_N = np.asarray(score_NI), np.asarray(target_N)
    I = score_NI.shape[1]  # noqa: E741
    bad = np.flatnonzero((target_N < 0) | (target_N >= I))
    if len(bad):
        raise UserError(
            f"metrics: item {target_N[bad[0]]} of example {bad[0]} is not in 0 to {I - 1}"
        )
    bad = np.flatnonzero(np.isnan(score_NI).any(axis=1))
    if len(bad):
        raise UserError(f"metrics: a score of example {bad[0]} is not a number")
    return (score_NI >= score_NI[np.arange(len(target_N)), target_N][:, None]).sum(axis=1)


def ranking(
    rank_N, ks: Sequence[int] = (1, 5, 10), groups_N=None, *, items: int | None = None
) -> dict[str, Metric]:
    """Return hit@k, ndcg@k and mrr, means sample examples with the users in `groups_N` as draws.

    hit@k: the rank is at most k. ndcg@k: 1 / log2(rank + 1) of those (Jarvelin & Kekalainen 2002,
    with one relevant item). mrr: 1 / rank.

    Raises UserError if a rank is not a whole number from 1 (to `items`), or a k reaches `items`.
    """
    rank_N = finite_values("rank", rank_N, len(rank_N))
    sample = draws(groups_N, len(rank_N))
    most = np.inf if items is None else items
    bad = np.flatnonzero((rank_N < 1) | (rank_N > most) | (rank_N != np.floor(rank_N)))
    if len(bad):
        limit, rank = "" if items is None else f" to {items}", rank_N[bad[0]]
        raise UserError(
            f"metrics: rank {rank:g} of example {bad[0]} is not a whole number from 1{limit}"
        )
    gain_N = 1 / np.log2(rank_N + 1)
    metrics = {}
    for k in ks:
        if not 1 <= k < most:
            raise UserError(
                f"metrics: the first {k} of {items or 'all'} items; choose fewer, from 1"
            )
        metrics[f"hit@{k}"] = sample.mean(rank_N <= k)
        metrics[f"ndcg@{k}"] = sample.mean(np.where(rank_N <= k, gain_N, 0.0))
    return metrics | {"mrr": sample.mean(1 / rank_N)}
