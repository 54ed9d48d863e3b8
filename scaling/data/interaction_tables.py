"""Tables of (user, item, time): the identifiers of Python files, any CSV or Parquet file, TFDS by name.

`python_identifiers` can be rebuilt anywhere: its users are the files of the embedded corpus (corpus.py),
its items the identifiers in them, in order of first appearance, once per file. Keywords, and what stands
in strings and comments, are none. `installed_identifiers` has the files of more packages, in the versions
that are installed.
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
    """The table of the config's `data` section. Raises UserError where it is missing or bad."""
    if data.name in ("embedded", "python_identifiers"):
        return python_identifiers(corpus.source_files())
    if data.name == "installed_identifiers":
        return python_identifiers(corpus.installed_files())
    if data.name == "interaction_table":
        return from_file(_path(data), data.columns)
    return from_tfds(data, cache_dir)


def identity(data) -> dict:
    """What decides the table, as part of a cache key."""
    if data.name in ("embedded", "python_identifiers"):
        return {"corpus": corpus.SHA256}
    if data.name == "installed_identifiers":
        return {"packages": corpus.installed_versions()}
    if data.name == "interaction_table":
        return {"file": labelled.stats([_path(data)]), "columns": data.columns}
    return {"split": data.train_split, "columns": data.columns}


def identifiers(text: str) -> list[str]:
    """The identifiers of a Python source, each once, in order of first appearance."""
    found = (match["name"] for match in TOKEN.finditer(text))
    return [name for name in dict.fromkeys(found) if name and name not in KEYWORDS]


def python_identifiers(files: list[tuple[str, bytes]]) -> Table:
    """The table of Python sources (path, content): one user per file."""
    per_file = [identifiers(content.decode()) for _, content in files]
    names = list(dict.fromkeys(name for found in per_file for name in found))
    code = {name: i for i, name in enumerate(names)}
    return Table(
        user_I=np.repeat(np.arange(len(per_file)), [len(found) for found in per_file]),
        item_I=np.array([code[name] for found in per_file for name in found]),
        time_I=np.concatenate([np.arange(len(found)) for found in per_file]),
        names=names,
    )


def from_file(path: Path, columns: tuple[str, str, str]) -> Table:
    """The table of a .csv or .parquet file, with the names of its columns of users, items and times.

    Raises UserError where a column is missing, an entry is, or times are no numbers or dates.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    try:
        if path.suffix == ".parquet":
            read = parquet.read_table(path)
        else:
            blank = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
            read = csv.read_csv(path, convert_options=blank)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = one_line(error, 300)
        raise UserError(f"config.data.path={path}: not readable as a table: {reason}") from error
    if not read.num_rows:
        raise UserError(f"config.data.path={path}: the table has no row")
    for name in columns:
        if name not in read.column_names:
            raise UserError(
                f"config.data.columns={columns}: {path} has {', '.join(read.column_names)}"
            )
        missing = np.flatnonzero(read[name].is_null(nan_is_null=True).to_numpy())
        if len(missing):
            raise UserError(
                f"{path}: column {name!r} has no value in {len(missing)} rows, first in row "
                f"{missing[0] + 1} below the header; fill or remove them"
            )
    users, items, times = (read[name].combine_chunks() for name in columns)
    kind = times.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind)):
        raise UserError(f"{path}: column {columns[2]!r} holds {kind}, not numbers or dates")
    user, item = users.dictionary_encode(), items.dictionary_encode()
    return Table(
        user_I=user.indices.to_numpy().astype(np.int64),
        item_I=item.indices.to_numpy().astype(np.int64),
        time_I=times.to_numpy(zero_copy_only=False),
        names=[str(name) for name in item.dictionary.to_pylist()],
    )


def from_tfds(data, cache_dir: Path) -> Table:
    """The table of a data set of TFDS, whose features config.data.columns names."""
    found = tfds_names.prepare(data.name, "recommend", cache_dir)
    tfds_names.require(found, data.columns, data.name, f"config.data.columns={data.columns}")
    codes: tuple[dict, dict] = {}, {}
    user_I, item_I, time_I = [], [], []
    source = tfds_names.records(found, data.train_split, data.name)
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
