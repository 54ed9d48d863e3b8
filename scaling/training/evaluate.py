"""Held-out loss and metrics: the same rows for every run of a sweep, with standard errors.

Shapes: R runs evaluated at once, N held-out rows, B rows per evaluation step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from scaling.fields.field import Field, HeldOutRows
from scaling.metrics.metric import Metric, draws
from scaling.programs import backend


@dataclass(frozen=True)
class HeldOut:
    """Held-out loss and metrics of one set of parameters."""

    loss: float  # mean nats per target
    loss_se: float  # standard error of that mean, over rows
    bits_per_byte: float | None  # of text
    tokens: int  # targets
    metrics: dict[str, Metric] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)  # for evaluation.json


def evaluate(
    readings: Callable[[Any], dict[str, Any]], rows: HeldOutRows, of: Field, batch: int
) -> list[HeldOut]:
    """Mean loss over all targets of `rows` and the metrics of the field `of`, for each of R runs.

    `readings` maps a batch of rows to arrays `[R, batch, ...]`, "loss" among them, summed over a row's targets; a
    last partial batch is padded and its padding dropped. The standard error treats rows,
    or their groups where they have some, not targets, as independent draws.
    """
    count = len(jax.tree.leaves(rows.batch)[0])
    in_flight = backend.evaluations_in_flight()
    parts, pending = [], []
    for start in range(0, count, batch):
        part = jax.tree.map(lambda x, i=start: x[i : i + batch], rows.batch)
        padded = jax.tree.map(lambda x: np.resize(x, (batch, *x.shape[1:])), part)
        pending.append((readings(padded), min(batch, count - start)))
        if len(pending) == in_flight:
            parts.append(_on_host(*pending.pop(0)))
    parts += [_on_host(*one) for one in pending]
    found = {k: np.concatenate([part[k] for part in parts], axis=1) for k in parts[0]}
    return [
        _held_out({k: v[r] for k, v in found.items()}, rows, of) for r in range(len(found["loss"]))
    ]


def _on_host(found: dict[str, Any], rows: int) -> dict[str, np.ndarray]:
    """Readings of the first `rows`, waited for."""
    return {name: np.asarray(x_RB)[:, :rows] for name, x_RB in found.items()}


def _held_out(readings_N: dict[str, np.ndarray], rows: HeldOutRows, of: Field) -> HeldOut:
    sums_N = readings_N["loss"].astype(np.float64)
    losses_N = sums_N / rows.targets
    count, loss = len(losses_N), float(losses_N.mean())
    if rows.groups_N is None:
        loss_se = float(losses_N.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
    else:
        loss_se = draws(rows.groups_N, count).mean(losses_N).se
    bits = None
    if rows.bytes_N is not None:
        bits = loss * count * rows.targets / int(rows.bytes_N.sum()) / math.log(2)
    return HeldOut(
        loss=loss,
        loss_se=loss_se,
        bits_per_byte=bits,
        tokens=count * rows.targets,
        metrics=of.metrics(readings_N, rows) if math.isfinite(loss) else {},
        details=of.details(readings_N, rows) if math.isfinite(loss) else {},
    )
