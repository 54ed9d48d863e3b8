"""Evaluate held-out loss and metrics with standard errors, on the same rows for every run of a
sweep.

Shapes: R runs evaluated at once, N held-out rows, B rows per evaluation step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
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
    metrics: dict[str, Metric] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)  # for evaluation.json


def evaluate(
    readings: Callable[[Any], dict[str, Any]], rows: HeldOutRows, field: Field, batch: int
) -> list[HeldOut]:
    """Compute the mean loss over all targets of `rows` and the metrics of `field`, for each of R
    runs.

    `readings` maps a batch of rows to arrays `[R, batch, ...]`, "loss" among them, summed over a
    row's targets. A last partial batch is padded and its padding dropped. The standard error treats
    rows, or their groups if they have some, as independent draws, not targets.
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
    readings_RN = {k: np.concatenate([part[k] for part in parts], axis=1) for k in parts[0]}
    return [
        _held_out({k: v[r] for k, v in readings_RN.items()}, rows, field)
        for r in range(len(readings_RN["loss"]))
    ]


def _on_host(readings_RB: dict[str, Any], rows: int) -> dict[str, np.ndarray]:
    """Wait for readings and return those of the first `rows`."""
    return {name: np.asarray(x_RB)[:, :rows] for name, x_RB in readings_RB.items()}


def _held_out(readings_N: dict[str, np.ndarray], rows: HeldOutRows, field: Field) -> HeldOut:
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
        metrics=field.metrics(readings_N, rows) if math.isfinite(loss) else {},
        details=field.details(readings_N, rows) if math.isfinite(loss) else {},
    )
