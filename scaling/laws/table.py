"""The input of every fit: columns of finite positive numbers, one row per run."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.errors import UserError


class CannotFit(UserError):
    """The rows do not determine the law; says why. No numbers are returned."""


@dataclass(frozen=True)
class Table:
    """Runs as columns, all of length n. Losses are nats per token."""

    n_params: np.ndarray
    tokens: np.ndarray
    flops: np.ndarray  # training FLOPs of each run
    loss: np.ndarray
    budget: np.ndarray  # IsoFLOP group of each run; 0 where it belongs to none
    names: tuple[str, ...]
    excluded: tuple[str, ...] = ()  # one line per row left out, and why

    def __len__(self) -> int:
        return len(self.loss)

    def rows(self, which) -> Table:
        """The table of some rows, by a boolean mask or by indices (repeats allowed)."""
        index = np.arange(len(self))[which]
        columns = ("n_params", "tokens", "flops", "loss", "budget")
        return dataclasses.replace(
            self,
            **{c: getattr(self, c)[index] for c in columns},
            names=tuple(self.names[i] for i in index),
        )

    def hash(self) -> str:
        """SHA-256 over names and numbers: what a fit was made on."""
        columns = ("n_params", "tokens", "flops", "loss", "budget")
        content = [list(self.names), *(getattr(self, c).tolist() for c in columns)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def make_table(*, n_params, tokens, flops, loss, budget=None, names=None, excluded=()) -> Table:
    """A table from sequences. Raises UserError naming rows that are not positive and finite."""
    columns = {
        "n_params": np.asarray(n_params, float),
        "tokens": np.asarray(tokens, float),
        "flops": np.asarray(flops, float),
        "loss": np.asarray(loss, float),
    }
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values) | (values <= 0))
        if len(bad):
            raise UserError(
                f"column {name}: not a positive finite number in rows {(bad + 1)[:8].tolist()}; "
                "mend or remove them"
            )
    n = len(columns["loss"])
    groups = np.zeros(n) if budget is None else np.asarray(budget, float)
    labels = tuple(str(i + 1) for i in range(n)) if names is None else tuple(names)
    return Table(**columns, budget=groups, names=labels, excluded=tuple(excluded))


def read_csv(
    path: str | Path,
    *,
    n_params: str,
    loss: str,
    tokens: str = "",
    flops: str = "",
    budget: str = "",
    drop_highest: int = 0,
) -> Table:
    """A table from a CSV with any column names; of tokens and flops, one may follow from C = 6 N D.

    Rows that cannot be read are left out and listed in `excluded`; so are the `drop_highest` rows of
    highest loss. Raises UserError where the file or a column is missing.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if not tokens and not flops:
        raise UserError("give --tokens or --flops, the column of tokens or of training FLOPs")
    with open(file, newline="") as handle:
        reader = csv.DictReader(handle)
        found = reader.fieldnames or []
        for column in filter(None, (n_params, loss, tokens, flops, budget)):
            if column not in found:
                near = difflib.get_close_matches(column, found, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(f"{file}: no column {column!r}{hint} (found {', '.join(found)})")
        rows = list(enumerate(reader, start=2))
    kept, excluded = [], []
    for number, row in rows:
        try:
            values = {c: float(row[c]) for c in (n_params, loss, tokens, flops, budget) if c}
            for column, value in values.items():
                if column != budget and not (math.isfinite(value) and value > 0):
                    raise ValueError(f"{column}={row[column]!r} is not positive and finite")
        except (TypeError, ValueError) as error:
            excluded.append(f"row {number}: {error}")
            continue
        kept.append((number, values))
    if drop_highest:
        ordered = sorted(kept, key=lambda item: item[1][loss])
        for number, _ in ordered[len(ordered) - drop_highest :]:
            excluded.append(f"row {number}: among the {drop_highest} highest losses")
        dropped = {number for number, _ in ordered[len(ordered) - drop_highest :]}
        kept = [item for item in kept if item[0] not in dropped]
    size = np.array([v[n_params] for _, v in kept])
    if tokens:
        seen = np.array([v[tokens] for _, v in kept])
        cost = np.array([v[flops] for _, v in kept]) if flops else 6 * size * seen
    else:
        cost = np.array([v[flops] for _, v in kept])
        seen = cost / (6 * size)
    return make_table(
        n_params=size,
        tokens=seen,
        flops=cost,
        loss=[v[loss] for _, v in kept],
        budget=[v[budget] for _, v in kept] if budget else None,
        names=[f"row {number}" for number, _ in kept],
        excluded=excluded,
    )


def require_spread(table: Table, n_free: int, form: str) -> None:
    """Raises CannotFit where rows are too few, or sizes or lengths too alike, for `n_free` numbers."""
    if len(table) <= n_free:
        raise CannotFit(
            f"{form}: {len(table)} usable rows for {n_free} parameters; add runs (at least "
            f"{n_free + 1})"
        )
    for name in ("n_params", "tokens"):
        distinct = len(np.unique(getattr(table, name)))
        if distinct < 3:
            raise CannotFit(
                f"{form}: column {name} has {distinct} distinct value(s); vary it over at least 3"
            )
