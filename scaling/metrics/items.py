"""Recommendation: where the item that came next stands among all items.

Ranks are among all items, never a sample: sampled metrics order models otherwise (Krichene & Rendle 2020).

Shapes: N examples, I items (or classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from scaling.metrics.metric import Metric, draws, finite_values
from scaling.utils.errors import UserError


def ranks(score_NI, target_N) -> np.ndarray:
    """Rank of each target, from 1: how many items score as much as it or more. Ties count against the target.

    Raises UserError at a score that is not a number, or a target that is no item; items left out have -inf.
    """
    score_NI, target_N = np.asarray(score_NI), np.asarray(target_N)
    I = score_NI.shape[1]  # noqa: E741
    bad = np.flatnonzero((target_N < 0) | (target_N >= I))
    if len(bad):
        raise UserError(
            f"metrics: item {target_N[bad[0]]} of example {bad[0]} is none of 0 to {I - 1}"
        )
    bad = np.flatnonzero(np.isnan(score_NI).any(axis=1))
    if len(bad):
        raise UserError(f"metrics: a score of example {bad[0]} is not a number")
    return (score_NI >= score_NI[np.arange(len(target_N)), target_N][:, None]).sum(axis=1)


def ranking(
    rank_N, ks: Sequence[int] = (1, 5, 10), groups_N=None, *, items: int | None = None
) -> dict[str, Metric]:
    """hit@k (the rank is k or better), ndcg@k (1 / log2(rank + 1) of those; Jarvelin & Kekalainen 2002, one relevant
    item) and mrr (1 / rank), means over examples with the users in `groups_N` as draws.

    Raises UserError at a rank that is no whole number from 1 (to `items`), or a k that all ranks are within.
    """
    rank_N = finite_values("rank", rank_N, len(rank_N))
    over = draws(groups_N, len(rank_N))
    most = np.inf if items is None else items
    bad = np.flatnonzero((rank_N < 1) | (rank_N > most) | (rank_N != np.floor(rank_N)))
    if len(bad):
        upto = "" if items is None else f" to {items}"
        raise UserError(
            f"metrics: rank {rank_N[bad[0]]:g} of example {bad[0]} is no whole number from 1{upto}"
        )
    gain_N = 1 / np.log2(rank_N + 1)
    found = {}
    for k in ks:
        if not 1 <= k < most:
            raise UserError(
                f"metrics: the first {k} of {items or 'all'} items; choose fewer, from 1"
            )
        found[f"hit@{k}"] = over.mean(rank_N <= k)
        found[f"ndcg@{k}"] = over.mean(np.where(rank_N <= k, gain_N, 0.0))
    return found | {"mrr": over.mean(1 / rank_N)}
