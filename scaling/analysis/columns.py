"""Turn rows of the table into columns of a picture or of a fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import run_table
from scaling.config import field_traits
from scaling.laws.table import CannotFit
from scaling.results import RunResult
from scaling.utils.notices import Notice

SIZES = {  # names of N on the axes, by config.laws.n_params
    "n_params": "size N, parameters without embeddings",
    "n_params_active": "size N, parameters that a token uses, without embeddings",
    "n_params_with_head": "size N, parameters with the head",
    "n_params_total": "size N, all parameters",
}
LETTERS = {"n_params": "N", "tokens": "D", "unique_tokens": "U"}


def require_runs(rows: list[RunResult]) -> tuple[list[RunResult], list[Notice]]:
    """Return the finished runs, and a notice for each other row. Raises CannotFit without any."""
    used, left_out = run_table.usable(rows)
    if not used:
        reasons = map(str, left_out[:3])
        raise CannotFit(
            "; ".join(["no finished run of a sweep; run `scaling sweep` first", *reasons])
        )
    return used, left_out


def number(row: RunResult, name: str, config: ConfigDict) -> float:
    """Return a column of one run, with n_params and flops in the conventions of `config.laws`."""
    convention = {"n_params": config.laws.n_params, "flops": config.laws.flops}
    return float(getattr(row, convention.get(name, name)))


def numbers(rows: Sequence[RunResult], name: str, config: ConfigDict) -> np.ndarray:
    """Return a column `[rows]` of all runs, see `number`."""
    return np.array([number(r, name, config) for r in rows])


def run_series(rows: Sequence[RunResult], names: Sequence[str], config: ConfigDict) -> dict:
    """Return the series `run` of a picture: run_id, the columns `names`, loss, loss_se, seed."""
    all_names = (*names, "loss", "loss_se", "seed")
    return {
        "run_id": np.array([r.run_id for r in rows]),
        **{name: numbers(rows, name, config) for name in all_names},
    }


def ranges(rows: Sequence[RunResult], names: Sequence[str], config: ConfigDict) -> dict:
    """Return [smallest, largest] value of each column."""
    values = {name: numbers(rows, name, config) for name in names}
    return {name: [float(v.min()), float(v.max())] for name, v in values.items()}


def labels(config: ConfigDict) -> dict[str, str]:
    """Return the names of the axes, with the unit of D in the config's field."""
    units = field_traits.UNITS[config.data.field]
    nats = f"nats/{units[:-1]}"
    return {
        "n_params": SIZES[config.laws.n_params],
        "tokens": f"training data D, {units}",
        "unique_tokens": f"unique data U, {units}",
        "tokens_per_param": f"M = D / N, {units} per parameter",
        "loss": f"held-out loss, {nats}",
        "training_loss": f"training loss, {nats}",
        "batch": f"batch size, {units} per step",
        "E": f"$E$, {nats}",
        "L0": f"$L_0$, {nats}",
    }
