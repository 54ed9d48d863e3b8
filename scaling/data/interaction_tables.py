"""Read tables of (user, item, time) from Python files, CSV or Parquet files, or TFDS.

`python_identifiers` can be rebuilt anywhere. Its users are the files of the embedded corpus
(corpus.py), its items the identifiers in them, once per file in order of first appearance. It
excludes keywords, strings and comments. `installed_identifiers` has the files of more packages, in
the installed versions.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data import corpus, labelled, tfds_names
from scaling.utils.errors import UserError, one_line

TOKEN = re.compile(
    r'[rRbBuUfF]{0,2}(?:"""(?:\\.|[^\\])*?"""|\'\'\'(?:\\.|[^\\])*?\'\'\''
    r'|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')'
    r"|\#[^\n]*|[0-9][0-9A-Za-z_.]*|(?P<name>[A-Za-z_][A-Za-z0-9_]*)",
    re.DOTALL,
)
KEYWORDS = frozenset(keyword.kwlist)


@dataclass(frozen=True)
class Table:
    """I interactions in the order of the source."""

    user_I: np.ndarray  # int64 codes from 0
    item_I: np.ndarray  # int64, indices of `names`
    time_I: np.ndarray  # anything that sorts
    names: list[str]  # of the items


def table(data, cache_dir: Path) -> Table:
    """Return the table of the config's `data` section. Raises UserError if it is missing or bad."""
    if data.name in ("embedded", "python_identifiers"):
        return python_identifiers(corpus.source_files())
    if data.name == "installed_identifiers":
        return python_identifiers(corpus.installed_files())
    if data.name == "interaction_table":
        return from_file(_path(data), data.columns)
    return from_tfds(data, cache_dir)


def identity(data) -> dict:
    """Return the properties that determine the table, as part of a cache key."""
    if data.name in ("embedded", "python_identifiers"):
        return {"corpus": corpus.SHA256}
    if data.name == "installed_identifiers":
        return {"packages": corpus.installed_versions()}
    if data.name == "interaction_table":
        return {"file": labelled.stats([_path(data)]), "columns": data.columns}
    return {"split": data.train_split, "columns": data.columns}


def identifiers(text: str) -> list[str]:
    """Return the identifiers of a Python source, each once, in order of first appearance."""
    names = (match["name"] for match in TOKEN.finditer(text))
    return [name for name in dict.fromkeys(names) if name and name not in KEYWORDS]


def python_identifiers(files: list[tuple[str, bytes]]) -> Table:
    """Return the table of Python sources (path, content), one user per file."""
    per_file = [identifiers(content.decode()) for _, content in files]
    names = list(dict.fromkeys(name for file in per_file for name in file))
    code = {name: i for i, name in enumerate(names)}
    return Table(
        user_I=np.repeat(np.arange(len(per_file)), [len(file) for file in per_file]),
        item_I=np.array([code[name] for file in per_file for name in file]),
        time_I=np.concatenate([np.arange(len(file)) for file in per_file]),
        names=names,
    )


def from_file(path: Path, columns: tuple[str, str, str]) -> Table:
    """Return the table of a .csv or .parquet file; `columns` names users, items and times.

    Raises UserError if a column or an entry is missing, or times are not numbers or dates.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix == ".parquet":
            file = parquet.read_table(path)
        else:
            blank = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
            file = csv.read_csv(path, convert_options=blank)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = one_line(error, 300)
        raise UserError(f"config.data.path={path}: not readable as a table: {reason}") from error
    if not file.num_rows:
        raise UserError(f"config.data.path={path}: the table has no row")
    for name in columns:
        if name not in file.column_names:
            raise UserError(
                f"config.data.columns={columns}: {path} has {', '.join(file.column_names)}"
            )
        missing = np.flatnonzero(file[name].is_null(nan_is_null=True).to_numpy())
        if len(missing):
            raise UserError(
                f"{path}: column {name!r} has no value in {len(missing)} rows, first in row "
                f"{missing[0] + 1} below the header; fill or remove them"
            )
    users, items, times = (file[name].combine_chunks() for name in columns)
    time_type = times.type
    if not (
        pa.types.is_integer(time_type)
        or pa.types.is_floating(time_type)
        or pa.types.is_temporal(time_type)
    ):
        raise UserError(f"{path}: column {columns[2]!r} holds {time_type}, not numbers or dates")
    user, item = users.dictionary_encode(), items.dictionary_encode()
    return Table(
        user_I=user.indices.to_numpy().astype(np.int64),
        item_I=item.indices.to_numpy().astype(np.int64),
        time_I=times.to_numpy(zero_copy_only=False),
        names=[str(name) for name in item.dictionary.to_pylist()],
    )


def from_tfds(data, cache_dir: Path) -> Table:
    """Return the table of a TFDS data set; config.data.columns names its features."""
    builder = tfds_names.prepare(data.name, "recommend", cache_dir)
    tfds_names.require(builder, data.columns, data.name, f"config.data.columns={data.columns}")
    codes: tuple[dict, dict] = {}, {}
    user_I, item_I, time_I = [], [], []
    source = tfds_names.records(builder, data.train_split, data.name)
    for i in range(len(source)):
        record = source[i]
        user, item, time = (record[name] for name in data.columns)
        user_I.append(codes[0].setdefault(user, len(codes[0])))
        item_I.append(codes[1].setdefault(item, len(codes[1])))
        time_I.append(time)
    names = [item.decode() if isinstance(item, bytes) else str(item) for item in codes[1]]
    return Table(np.array(user_I, np.int64), np.array(item_I, np.int64), np.array(time_I), names)


def _path(data) -> Path:
    path = Path(data.path).expanduser()
    if path.suffix not in (".csv", ".parquet") or not path.is_file():
        raise UserError(f"config.data.path={data.path}: no such .csv or .parquet file")
    return path
