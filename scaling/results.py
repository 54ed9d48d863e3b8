"""Define, read and write the result of a run and the table of runs.

`<workdir>/runs/<run_id>/result.json` is written once, atomically, when a run ends as `done`,
`diverged`, or `stopped` by a search that found better runs. A run that raised an exception leaves
`failure.json`, and the next command tries it again. `<workdir>/runs.csv` and `runs.parquet` hold
one row per run and are rebuilt from those files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
import os
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.utils import files, table_file
from scaling.utils.errors import UserError, one_line
from scaling.utils.file_version import SCHEMA, refuse_newer

log = logging.getLogger("scaling")


AS_PLANNED = ("done", "stopped")  # statuses that are not a problem
STATUSES = (*AS_PLANNED, "diverged", "failed")
ENDS = ("result.json", "failure.json")
SKIPPED = "skipped, delete it (or its folder, if a copy) to train that run again"


@dataclass(frozen=True)
class RunResult:
    """One row of the table. Units: nats per token, tokens, training FLOPs, seconds."""

    run_id: str
    status: str  # done | diverged | stopped (by successive halving) | failed
    reason: str  # why it is not done; "" if it is
    role: str  # sweep | holdout | run; in tables also removed: no longer planned
    depth: int
    width: int
    head_dim: int
    mlp_width: int
    vocab_size: int
    seq_len: int
    n_params: int  # without embeddings and head
    n_params_active: int  # used by one token: k of a layer's experts, all of a dense model
    n_params_with_head: int
    n_params_total: int
    n_params_head: int
    n_params_embedding: int
    tokens: int
    unique_tokens: int  # in the training split
    epochs: float
    budget: float  # FLOPs that the plan requests; 0 outside IsoFLOP plans
    flops_exact: float
    flops_appendix_f: float
    flops_kaplan: float
    flops_porian: float
    flops_chinchilla: float
    flops_spent: float  # exact FLOPs trained here; less than flops_exact if a trunk was shared
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
    wall_time: float  # seconds over all restarts, with compilation; its share if packed
    tokens_per_second: float | None  # median of 3 or more dispatches, without the first
    mfu: float | None  # flops_exact per second over machine.peak_flops; at most 1
    trunk: str  # run_id of the run whose checkpoint it was forked from, or ""
    packed: int  # runs trained side by side in its program; 1 = alone
    config_hash: str
    data_fingerprint: str
    commit: str
    versions: str
    device: str
    field: str  # language | vision | speech | recommend; it determines the unit of "tokens"
    added: str = ""  # in tables: why an adaptive sweep added the run
    # further columns, each with its standard error as "<name>_se"
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


# Columns that the first tables lack, and their values in those tables.
ADDED_COLUMNS: dict[str, Callable[[dict], Any]] = {
    "flops_spent": lambda row: row["flops_exact"],
    "packed": lambda row: 1,
    "field": lambda row: "language",
    "n_params_active": lambda row: row["n_params"],
    "added": lambda row: "",
}
FIELDS = [f.name for f in dataclasses.fields(RunResult) if f.name != "metrics"]


def _column_types() -> dict[str, tuple[type, bool]]:
    """Return column -> (type of its values, whether it may be empty)."""
    types = {}
    for name, hint in typing.get_type_hints(RunResult).items():
        if name == "metrics":
            continue
        inner = [t for t in typing.get_args(hint) if t is not type(None)]
        types[name] = (inner[0], True) if inner else (hint, False)
    return types


_TYPES = _column_types()  # computed once, since tables have many rows


class DamagedResult(Exception):
    """A result file or row that violates the schema; the message names the column and the file."""


def write(path: Path, result: RunResult) -> None:
    """Write `result.json` once. Raises FileExistsError if it exists."""
    if path.exists():
        raise FileExistsError(f"{path} exists; a run's result is written once")
    files.write_json(path, to_json(result), seal=True)


def to_json(result: RunResult) -> dict[str, Any]:
    """Return the content of `result.json` or `failure.json`: the row and its schema number."""
    return {"schema": SCHEMA, **dataclasses.asdict(result)}


def read(path: Path) -> RunResult:
    """Read the result file of a run's folder.

    Raises DamagedResult naming the file, also if it is of another run than its folder, UserError
    for a newer schema, and FileNotFoundError.
    """
    try:
        row = files.parse(files.read_bytes(path))
        if isinstance(row, dict):
            refuse_newer(row, path)
        result = from_row(files.unsealed(row))
        if result.run_id != path.parent.name:
            raise DamagedResult(f"is of another run, {one_line(result.run_id, 100)}")
        return result
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise DamagedResult(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, DamagedResult) as error:
        raise DamagedResult(f"{path}: {one_line(error, 200)}") from error


def from_row(row: Any) -> RunResult:
    """Return a result from a dict of values or texts. Raises DamagedResult naming a column."""
    if not isinstance(row, dict):
        raise DamagedResult("not a table row")
    values: dict[str, Any] = {}
    for name in _TYPES:
        if name not in row and name in ADDED_COLUMNS and "flops_exact" in row:
            row = {**row, name: ADDED_COLUMNS[name](row)}
        if name not in row:
            raise DamagedResult(f"column {name} is missing")
        value, (convert, optional) = row[name], _TYPES[name]
        if value is None or (optional and value == ""):
            if not optional:
                raise DamagedResult(f"column {name} is empty")
            values[name] = None
        else:
            values[name] = _converted(name, value, convert)
    if values["status"] not in STATUSES:
        raise DamagedResult(f"column status={values['status'][:40]!r} is not {STATUSES}")
    if values["status"] == "done" and values["loss"] is None:
        raise DamagedResult("column loss is empty though the run is done")
    return RunResult(**values, metrics=_metrics(row))


def _converted(name: str, value: Any, convert: type) -> Any:
    """Return a value, or the text of one, as the type of its column. Raises DamagedResult."""
    try:
        if isinstance(value, bool | list | dict) or (convert is str and not isinstance(value, str)):
            raise TypeError
        converted = convert(value)
        if convert is float and not math.isfinite(converted):
            raise ValueError
        if convert is int and not (0 <= converted < 2**63 and value in (converted, str(value))):
            raise ValueError
        return converted
    except (TypeError, ValueError, OverflowError) as error:
        shown = one_line(repr(value), 40)
        raise DamagedResult(f"column {name}={shown} is not {convert.__name__}") from error


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    """Return the metrics of a result file, or the further columns of numbers of a table."""
    metrics = row.get("metrics")
    if metrics is None:
        known = {*_TYPES, "schema", "launch"}
        metrics = {k: v for k, v in row.items() if k not in known and _is_number(v)}
    if not isinstance(metrics, dict):
        raise DamagedResult("metrics are not names and numbers")
    return {name: _converted(name, value, float) for name, value in metrics.items()}


def collect(workdir: Path) -> tuple[list[RunResult], list[str]]:
    """Return (results of all runs below `workdir` by run_id, one line per damaged file)."""
    results, damaged = [], []
    for name in run_names(workdir):
        try:
            ended = read_ended(workdir / "runs" / name)
        except DamagedResult as error:
            damaged.append(f"{error}; {SKIPPED}")
        else:
            if ended is not None:
                results.append(ended)
    return results, damaged


def run_names(workdir: Path) -> list[str]:
    """Return the sorted names of the run folders below `workdir`; none if it has no such folder."""
    try:
        return sorted(entry.name for entry in os.scandir(workdir / "runs"))
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise UserError(
            f"{workdir / 'runs'} is not a folder; move it away, or choose another --workdir"
        ) from None


def read_ended(run_dir: Path) -> RunResult | None:
    """Return the run's `result.json`, else its `failure.json`, else None. Raises DamagedResult."""
    for name in ENDS:
        # A failed open is one call to the file system, the least over a network.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return read(run_dir / name)
    return None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def write_table(workdir: Path, results: list[RunResult]) -> None:
    """Write `runs.csv` and `runs.parquet`, each atomically."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    arrow_types = {int: pa.int64(), float: pa.float64(), str: pa.string()}
    columns = [
        pa.array([getattr(r, name) for r in results], arrow_types[column_type])
        for name, (column_type, _) in _TYPES.items()
    ]
    metrics = sorted({name for r in results for name in r.metrics})
    columns += [pa.array([r.metrics.get(name) for r in results], pa.float64()) for name in metrics]
    table = pa.Table.from_arrays(columns, names=[*_TYPES, *metrics])
    for name, write_to in (("runs.csv", csv.write_csv), ("runs.parquet", parquet.write_table)):
        buffer = io.BytesIO()
        write_to(table, buffer)
        files.write_bytes(workdir / name, buffer.getvalue())


def read_table(path: Path) -> tuple[list[RunResult], list[str]]:
    """Return (rows of a `runs.csv`, one line per damaged row). Raises UserError without a row."""
    if not path.is_file():
        raise UserError(f"{path}: no such table; run `scaling sweep` first")
    file = table_file.read(path)
    rows, damaged = [], [f"{path}: {notice}; skipped" for notice in file.left_out]
    for row in file.rows:
        try:
            rows.append(from_row({name: row.cells[name] for name in file.header}))
        except DamagedResult as error:
            damaged.append(f"{path}: {row.name}: {error}; skipped")
    return rows, damaged
