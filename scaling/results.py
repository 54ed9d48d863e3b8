"""The schema of a run's result and of the table of runs; the only reader and writer of both.

`<workdir>/runs/<run_id>/result.json` is written once, atomically, when a run has ended by itself:
`done`, `diverged`, or `stopped` by a search that found better ones. A run that raised leaves `failure.json` and is tried again by the next command.
`<workdir>/runs.csv` and `runs.parquet` hold one row per run, made anew from those files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.utils import files
from scaling.utils.errors import UserError
from scaling.utils.file_version import SCHEMA, refuse_newer

log = logging.getLogger("scaling")


AS_PLANNED = ("done", "stopped")  # what is nobody's problem


@dataclass(frozen=True)
class RunResult:
    """One row of the table. Units: nats per token, tokens, training FLOPs, seconds."""

    run_id: str
    status: str  # done | diverged | stopped (by successive halving) | failed
    reason: str  # why it is not done; "" where it is
    role: str  # sweep | holdout | run
    depth: int
    width: int
    head_dim: int
    mlp_width: int
    vocab_size: int
    seq_len: int
    n_params: int  # without embeddings and head
    n_params_active: (
        int  # those of them that a token uses: k of a layer's experts, all of a dense model
    )
    n_params_with_head: int
    n_params_total: int
    n_params_head: int
    n_params_embedding: int
    tokens: int
    unique_tokens: int  # in the training split
    epochs: float
    budget: float  # FLOPs asked for by the plan; 0 outside IsoFLOP plans
    flops_exact: float
    flops_appendix_f: float
    flops_kaplan: float
    flops_porian: float
    flops_chinchilla: float
    flops_spent: float  # exact FLOPs trained here; less than flops_exact where a trunk was shared
    lr: float
    warmup_tokens: int
    decay_tokens: int  # over which the learning rate falls at the end, or checkpoints are merged
    schedule: str  # cosine | wsd | wsd-merge | constant
    batch_tokens: int  # tokens per optimizer step
    weight_decay: float
    seed: int
    loss: float | None  # held out, mean nats per token
    loss_se: float | None
    bits_per_byte: float | None
    eval_tokens: int | None
    train_loss: float | None  # mean over the last logged steps
    wall_time: float  # seconds over all restarts, compilation included; its share where packed
    tokens_per_second: float | None  # median over dispatches, compilation left out
    mfu: float | None  # flops_exact per second over machine.peak_flops
    trunk: str  # run_id of the run whose checkpoint it was forked from, or ""
    packed: int  # runs trained side by side in its program; 1 = alone
    config_hash: str
    data_fingerprint: str
    commit: str
    versions: str
    device: str
    field: str  # language | vision | speech | recommend; its unit is what "tokens" counts
    metrics: dict[str, float] = dataclasses.field(
        default_factory=dict
    )  # columns, "_se" beside each


# Columns younger than the first tables, and what they held before they had a name.
YOUNGER: dict[str, Callable[[dict], Any]] = {
    "flops_spent": lambda row: row["flops_exact"],
    "packed": lambda row: 1,
    "field": lambda row: "language",
    "n_params_active": lambda row: row["n_params"],
}
FIELDS = [f.name for f in dataclasses.fields(RunResult) if f.name != "metrics"]


def _kinds() -> dict[str, tuple[type, bool]]:
    """column -> (type of its values, whether it may be empty); once, since tables have many rows."""
    kinds = {}
    for name, kind in typing.get_type_hints(RunResult).items():
        if name == "metrics":
            continue
        inner = [t for t in typing.get_args(kind) if t is not type(None)]
        kinds[name] = (inner[0], True) if inner else (kind, False)
    return kinds


_KINDS = _kinds()


class DamagedResult(Exception):
    """A result file or row that does not hold what the schema asks for; says what and where."""


def write(path: Path, result: RunResult) -> None:
    """Write `result.json` once. Raises FileExistsError where there is one."""
    if path.exists():
        raise FileExistsError(f"{path} exists; a run's result is written once")
    files.write_json(path, to_json(result))


def to_json(result: RunResult) -> dict[str, Any]:
    """What `result.json` and `failure.json` hold: the row and the number of its schema."""
    return {"schema": SCHEMA, **dataclasses.asdict(result)}


def read(path: Path) -> RunResult:
    """Raises DamagedResult naming the file and what is wrong with it, UserError where it is newer."""
    try:
        row = json.loads(path.read_text())
        if isinstance(row, dict):
            refuse_newer(row, path)
        return from_row(row)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedResult(f"{path}: not JSON ({error})") from error
    except DamagedResult as error:
        raise DamagedResult(f"{path}: {error}") from error


def from_row(row: Any) -> RunResult:
    """A result from a dict whose values may be text (CSV). Raises DamagedResult naming the column."""
    if not isinstance(row, dict):
        raise DamagedResult("not a table row")
    values: dict[str, Any] = {}
    for name in _KINDS:
        if name not in row and name in YOUNGER and "flops_exact" in row:
            row = {**row, name: YOUNGER[name](row)}
        if name not in row:
            raise DamagedResult(f"column {name} is missing")
        value, (kind, optional) = row[name], _KINDS[name]
        if value is None or (optional and value == ""):
            if not optional:
                raise DamagedResult(f"column {name} is empty")
            values[name] = None
            continue
        try:
            values[name] = kind(value)
        except (TypeError, ValueError) as error:
            raise DamagedResult(f"column {name}={value!r} is no {kind.__name__}") from error
    return RunResult(**values, metrics=_metrics(row))


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    """Those of a result file, or the columns of numbers in a table that are no fields."""
    found = row.get("metrics")
    if found is None:
        known = {*_KINDS, "schema", "launch"}
        found = {k: v for k, v in row.items() if k not in known and _is_number(v)}
    try:
        return {name: float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DamagedResult(f"metrics {found!r} are no names and numbers") from error


def collect(workdir: Path) -> tuple[list[RunResult], list[str]]:
    """(results of all runs below `workdir` by run_id, one line for each damaged file)."""
    results, damaged = [], []
    for name in run_names(workdir):
        try:
            ended = read_ended(workdir / "runs" / name)
        except DamagedResult as error:
            damaged.append(f"{error}; skipped, delete it to train that run again")
        else:
            if ended is not None:
                results.append(ended)
    return results, damaged


def run_names(workdir: Path) -> list[str]:
    """Names of the run folders below `workdir`, sorted; none where there is no such folder."""
    try:
        return sorted(entry.name for entry in os.scandir(workdir / "runs"))
    except (FileNotFoundError, NotADirectoryError):
        return []


def read_ended(run_dir: Path) -> RunResult | None:
    """The run's `result.json`, else its `failure.json`, else None. Raises DamagedResult."""
    for name in ("result.json", "failure.json"):
        # Opening and failing is one call to the file system, which over a network is what costs.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return read(run_dir / name)
    return None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def write_table(workdir: Path, results: list[RunResult]) -> None:
    """`runs.csv` and `runs.parquet`, each replaced as a whole."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    kinds = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    columns = [
        pa.array([getattr(r, name) for r in results], kinds[kind])
        for name, (kind, _) in _KINDS.items()
    ]
    metrics = sorted({name for r in results for name in r.metrics})
    columns += [pa.array([r.metrics.get(name) for r in results], pa.float64()) for name in metrics]
    table = pa.Table.from_arrays(columns, names=[*_KINDS, *metrics])
    for name, write_to in (("runs.csv", csv.write_csv), ("runs.parquet", parquet.write_table)):
        buffer = io.BytesIO()
        write_to(table, buffer)
        files.write_bytes(workdir / name, buffer.getvalue())


def read_table(path: Path) -> tuple[list[RunResult], list[str]]:
    """(rows of a `runs.csv`, one line for each damaged row)."""
    import csv

    if not path.is_file():
        raise UserError(f"{path}: no such table; run `scaling sweep` first")
    rows, damaged = [], []
    with open(path, newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                rows.append(from_row(row))
            except DamagedResult as error:
                damaged.append(f"{path}: row {number}: {error}; skipped")
    return rows, damaged
