"""The interface of a field: the functions that each file `scaling/fields/<name>.py` defines.

Shapes: K steps of one dispatch, B rows of a step, N held-out rows. A batch is a tree of arrays with
the leading axes [K, B] in training and [B] in evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from scaling.data.pipeline import Source
from scaling.metrics.metric import Metric
from scaling.models.losses import LossTerms


@dataclass(frozen=True)
class HeldOutRows:
    """The rows that every run of a study is evaluated on."""

    batch: Any  # a tree of arrays [N, ...]
    targets: int  # targets of a row that count
    groups_N: np.ndarray | None = None  # rows of one group are one draw; None: each is its own
    bytes_N: np.ndarray | None = None  # bytes of text of a row's targets; language alone
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """The data of a config, ready to draw batches from."""

    fingerprint: str
    unique: int  # targets in the training split, in the field's unit
    per_epoch: int  # units of one epoch as trained, padding included
    dispatches: Callable[[ConfigDict, tuple[int, int]], Source]  # (config, (k-th, of n) shares)
    held_out: Callable[[ConfigDict], HeldOutRows]
    tokenizer_file: Path | None = None  # a tokenizer.json, which runs keep a copy of


class Field(Protocol):
    """The functions of `scaling/fields/<name>.py`; `c` is a whole config."""

    def example(self, c: ConfigDict) -> Any:
        """Return one row of a batch as a tree of jax.ShapeDtypeStruct."""

    def prepare(self, c: ConfigDict) -> Prepared:
        """Return the data, from the cache or made now. Raises UserError if missing or bad."""

    def model(self, c: ConfigDict, rngs: nnx.Rngs) -> nnx.Module:
        """Return the network; `c.model.matmul` and `c.model.attention` are resolved."""

    def inputs(self, batch: Any) -> Any:
        """Return the part of a batch that the network is called with."""

    def loss(self, model: Any, batch: Any, chunk: int, terms: LossTerms) -> Any:
        """Mean cross-entropy in nats per target, with the gradient of the objective of `terms`."""

    def readings(self, model: Any, batch: Any, chunk: int) -> dict[str, Any]:
        """Return the numbers of each row that the metrics need.

        Among them is "loss", the sum over the row's targets that count.
        """

    def metrics(self, readings_N: Mapping[str, np.ndarray], rows: HeldOutRows) -> dict[str, Metric]:
        """Compute metrics from the readings of all rows, in their order."""

    def details(self, readings_N: Mapping[str, np.ndarray], rows: HeldOutRows) -> dict[str, Any]:
        """Other content of the run's evaluation.json, such as a confusion matrix."""
