"""The record of compiled programs that train and evaluate runs of one shape.

Shapes: R runs of one program, K steps of one dispatch, B rows per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh


@dataclass(frozen=True)
class Programs:
    """Jitted functions over a state `{"params", "opt"}` of one shape, for R runs on one mesh."""

    mesh: Mesh
    runs: int  # R, 1 where the program trains one run alone
    state_like: Any  # the state of one run as jax.ShapeDtypeStruct with shardings
    init: Any  # seed -> state of one run
    train: Any  # (state, hyper_R, batch_RKB, first_R, begin_R, end_R) -> (state, metrics_RK)
    # (params, batch_B) -> {"loss": summed over each row's targets, ...}, each [R, B, ...]
    readings: Any
    join: Callable[[Sequence[Any]], Any]  # states of R runs -> the state that `train` takes
    split: Callable[[Any], list[Any]]  # its inverse
    batch: Callable[[Any], Any]  # this process's batch_RKB onto the mesh
    share: tuple[int, int]  # (k, n): this process holds the k-th of n parts of the batch
    jitted: Any  # the jitted function behind `train`
