"""Average checkpoints of a constant learning rate, in place of its decay (merged cooldowns).

With parameters p_n, p_1', ..., p_k' of k + 1 checkpoints and the updates g_i between them,

    sum_j c_j p_j' = p_n - sum_i w_i g_i,    w_i = c_i + ... + c_k,

so that an average weighs the last updates as a falling learning rate would (Tian et al. 2025,
"WSM", where the updates are those of the constant rate). Haegele et al. 2024 also measure averages
of the last part of a run against its decay.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.training.checkpoint import Checkpoints
from scaling.utils.errors import UserError


def weights(kind: str, count: int, final: float) -> list[float]:
    """Return the weight of each of `count` checkpoints, the oldest first; they sum to 1.

    "uniform": all equal. "decay": w_i is the factor of a linear decay to the fraction `final` in
    the middle of the i-th interval: c_0 = 1 - w_1, c_i = w_i - w_(i+1), c_k = w_k.
    """
    if kind == "uniform":
        return [1 / count] * count
    k = count - 1
    w = [1.0, *(1 - (1 - final) * (i + 0.5) / k for i in range(k)), 0.0]
    return [a - b for a, b in itertools.pairwise(w)]


def read_parameters(sources: Mapping[int, Checkpoints], state_like: Any) -> Iterator[Any]:
    """Yield the parameters of each step. Raises UserError if a checkpoint is missing."""
    for step, checkpoints in sources.items():
        restored = checkpoints.restore(state_like, at_most=step)
        if restored is None or restored[1]["step"] != step:
            raise UserError(
                f"{checkpoints.folder} has no intact checkpoint of step {step}, one of those to "
                f"merge; delete {checkpoints.folder.parent} to train that run again"
            )
        yield restored[0]["params"]


def average(trees: Iterable[Any], weights: list[float]) -> Any:
    """Return the weighted sum of trees of arrays, added in float32 in their order.

    Dtypes and shardings stay.
    """
    total = first = None
    for tree, weight in zip(trees, weights, strict=True):
        part = jax.tree.map(lambda x, w=weight: jnp.float32(w) * x.astype(jnp.float32), tree)
        total = part if total is None else jax.tree.map(jnp.add, total, part)
        first = tree if first is None else first
    return jax.tree.map(lambda x, like: x.astype(like.dtype), total, first)
