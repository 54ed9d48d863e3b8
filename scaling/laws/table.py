"""Define `Table`, the input of every fit: named columns of positive numbers, one row per run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.utils.errors import UserError
from scaling.utils.notices import Notice


class CannotFit(UserError):
    """The rows do not determine the law. The message gives the reason."""


@dataclass(frozen=True)
class Table:
    """Runs as columns of equal length. Losses are nats per token.

    `columns` may hold n_params, tokens, flops (training FLOPs of the run), loss, budget (IsoFLOP
    group; 0 for none), unique_tokens, tokens_per_param, loss_se, seed, x, error, lr, batch (tokens
    per step), blocks (a number per label of `--blocks`).
    """

    columns: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    excluded: tuple[Notice, ...] = ()  # one per row left out, with the reason
    warnings: tuple[Notice, ...] = ()  # on the rows that were kept
    reading: tuple[Notice, ...] = ()  # how the file was read, where that is not plain CSV
    # unused columns of a file whose few values may tell families of runs apart
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.columns or (
            name == "tokens_per_param" and {"n_params", "tokens"} <= set(self.columns)
        )

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column `[N]`. Raises CannotFit if the table lacks it."""
        if name in self.columns:
            return self.columns[name]
        if name in self:
            return self.columns["tokens"] / self.columns["n_params"]
        raise CannotFit(
            f"the table has no column {name} (it has {', '.join(self.columns)}); name it, "
            f"e.g. --{name}=COLUMN"
        )

    @property
    def n_params(self) -> np.ndarray:
        return self["n_params"]

    @property
    def tokens(self) -> np.ndarray:
        return self["tokens"]

    @property
    def flops(self) -> np.ndarray:
        return self["flops"]

    @property
    def loss(self) -> np.ndarray:
        return self["loss"]

    @property
    def budget(self) -> np.ndarray:
        """Return the IsoFLOP group of every row, 0 for none."""
        return self.columns["budget"] if "budget" in self.columns else np.zeros(len(self))

    def rows(self, selection) -> Table:
        """Return the table of rows selected by a boolean mask or by indices (repeats allowed)."""
        index = np.arange(len(self))[selection]
        return dataclasses.replace(
            self,
            columns={name: values[index] for name, values in self.columns.items()},
            names=tuple(self.names[i] for i in index),
            labels={name: tuple(cells[i] for i in index) for name, cells in self.labels.items()},
        )

    def with_columns(self, **columns) -> Table:
        """Return the table with columns added or replaced."""
        return dataclasses.replace(self, columns={**self.columns, **columns})

    def hash(self) -> str:
        """Return the SHA-256 over names and numbers, which identifies the input of a fit."""
        content = [list(self.names), *(self.columns[c].tolist() for c in sorted(self.columns))]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def make_table(*, names=None, excluded=(), warnings=(), budget=None, **columns) -> Table:
    """Build a table from sequences of equal length.

    Raises UserError for unequal lengths, and names rows that are not positive and finite.
    """
    arrays = {name: np.asarray(values, float) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"columns of unequal length: {lengths}")
    for name, values in arrays.items():
        bad = np.flatnonzero(~np.isfinite(values) | (values <= 0) & (name != "seed"))
        if len(bad):
            raise UserError(
                f"column {name}: not a positive finite number in rows {(bad + 1)[:8].tolist()}; "
                "fix or remove them"
            )
    n = next(iter(lengths.values()), 0)
    if budget is not None:
        arrays["budget"] = np.asarray(budget, float)
    labels = tuple(str(i + 1) for i in range(n)) if names is None else tuple(names)
    return Table(arrays, labels, tuple(excluded), tuple(warnings))


def group_budgets(flops: np.ndarray, tolerance: float = 0.05) -> np.ndarray:
    """Return `[N]` IsoFLOP groups, the median FLOPs of rows that agree to within `tolerance`.

    Neighbours in log FLOPs closer than the tolerance belong to one group. A group needs four rows;
    others get 0.
    """
    order = np.argsort(flops)
    group = np.concatenate([[0], np.cumsum(np.diff(np.log(flops[order])) > tolerance)])
    budgets = np.zeros(len(flops))
    for g in np.unique(group):
        members = order[group == g]
        if len(members) >= 4 and np.ptp(np.log(flops[members])) < 4 * tolerance:
            budgets[members] = np.median(flops[members])
    return budgets
