"""Return the documents that a config names: embedded corpus, Debian packages, TFDS, files, plugins.

A source is an iterable of documents (str) in a fixed order. This module does not use tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from scaling.data import debian_text, file_names, labelled, text_files, text_pieces
from scaling.utils import plugins
from scaling.utils.errors import UserError
from scaling.utils.registry import SOURCES, Entry

EMBEDDED = "python_sources"  # registered by scaling/data/corpus.py
ONE_SPLIT = ("text", "jsonl", "parquet", "text_folder", *debian_text.NAMES)
SOURCES.shipped = ("embedded", EMBEDDED, "hf", *ONE_SPLIT)


def documents(data, cache_dir: Path) -> tuple[Iterable[str], Iterable[str] | None]:
    """Return (documents, held-out documents, or None to split them off the first).

    `data` is the config's section. Raises UserError if the source is missing or empty.
    """
    if data.valid_split and (data.name in ONE_SPLIT or data.name in SOURCES):
        raise UserError(
            f"config.data.valid_split={data.valid_split!r}: {data.name} has one split; leave it "
            "empty, and config.data.valid_fraction of the documents are held out"
        )
    if data.valid_split == data.train_split:
        raise UserError(
            f"config.data.valid_split={data.valid_split!r} is config.data.train_split, too; name "
            "another, or leave it empty, and config.data.valid_fraction of the documents are held "
            "out"
        )
    if data.name in SOURCES:
        return PluginDocuments(SOURCES[data.name], data), None
    if data.name == "text_folder":
        return FolderDocuments(data.path, data.pattern or "*.txt"), None
    if data.name in text_files.NAMES:
        train, held_out = _of_files(data)
        return (train if held_out else text_pieces.enough(train, data.valid_fraction)), held_out
    if data.name in debian_text.NAMES:
        return debian_text.DebianText(data.name, data.path), None
    name = EMBEDDED if data.name == "embedded" else data.name
    valid = _tfds_documents(name, data.valid_split, data, cache_dir) if data.valid_split else None
    return _tfds_documents(name, data.train_split, data, cache_dir), valid


def faults(*sides: Iterable[str] | None) -> dict[str, dict]:
    """Return what the last reading of documents left out or repaired, by reason."""
    found: dict[str, dict] = {}
    for side in sides:
        whole = side.documents if isinstance(side, text_pieces.Pieces) else side
        if isinstance(whole, text_files.TextFiles):
            for reason, fault in whole.faults.summary().items():
                if reason in found:
                    found[reason]["count"] += fault["count"]
                else:
                    found[reason] = fault
    return found


def identity(data) -> dict:
    """Return the properties that determine the documents, as part of a cache key."""
    if data.name in SOURCES:
        return {
            "name": data.name,
            "plugin": plugins.hash_of(SOURCES[data.name].module),
            "keys": [data.path, data.pattern, data.text_key, data.train_split],
            "files": labelled.stats(_files_at(data.path, data.pattern or "*")),
        }
    if data.name == "text_folder":
        return {"folder": labelled.stats(folder_files(data.path, data.pattern or "*.txt"))}
    if data.name in text_files.NAMES:
        return {
            "name": data.name,
            "files": [
                documents.path
                if isinstance(documents, text_files.HubDocuments)
                else labelled.stats(documents.files)
                for documents in _of_files(data)
                if documents
            ],
            "keys": [
                data.text_key,
                data.separator,
                data.errors,
                data.train_split,
                data.valid_split,
            ],
            "pieces": text_pieces.SETTINGS,
        }
    if data.name in debian_text.NAMES:
        files = debian_text.DebianText(data.name, data.path).files
        return {"name": data.name, "files": labelled.stats(files)}
    return {"name": data.name, "splits": [data.train_split, data.valid_split or "", data.text_key]}


def _of_files(data) -> tuple[text_files.TextFiles, text_files.TextFiles | None]:
    """Return (training documents, those of config.data.valid_split) of a name of `text_files`."""
    if data.name != "hf":
        found = file_names.find(data.path, data.pattern, data.name)
        return text_files.TextFiles(data, found), None
    saved = file_names.saved_splits(data.path)

    def of(key: str) -> text_files.TextFiles:
        split = getattr(data, key)
        if saved is None:
            return text_files.HubDocuments(data, split)
        return text_files.TextFiles(data, file_names.saved_files(data.path, saved, split, key))

    return of("train_split"), of("valid_split") if data.valid_split else None


def _files_at(path: str | None, pattern: str) -> list[Path]:
    """Return the files that a plugin's source may read, none if its path is no file or folder."""
    given = Path(path).expanduser() if path else None
    if given and given.is_dir():
        return folder_files(str(given), pattern)
    return [given] if given and given.is_file() else []


def folder_files(path: str, pattern: str) -> list[Path]:
    """Return the sorted files below `path` that match `pattern`. Raises UserError without one."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"config.data.path={path}: no such folder")
    files = sorted(f for f in folder.rglob(pattern) if f.is_file() and f.stat().st_size > 0)
    if not files:
        raise UserError(
            f"config.data.path={path}: no non-empty file matches config.data.pattern={pattern!r}"
        )
    return files


class PluginDocuments:
    """The texts of a plugin's source, a function of config.data, called for each reading."""

    def __init__(self, entry: Entry, data):
        self.entry, self.data = entry, data

    def __iter__(self) -> Iterator[str]:
        texts = iter(self.entry(self.data))
        number = 0
        while (text := self.entry.guarded(next, texts, None)) is not None:
            if not isinstance(text, str):
                raise self.entry.error(f"document {number} is {type(text).__name__}, not a text")
            yield text
            number += 1


class FolderDocuments:
    """One document per file, in order of the paths. Raises UserError naming a non-UTF-8 file."""

    def __init__(self, path: str, pattern: str):
        self.files = folder_files(path, pattern)

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            try:
                yield file.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{file}: not UTF-8 at byte {error.start}; convert it, or narrow "
                    "config.data.pattern"
                ) from error


class TfdsDocuments:
    """The text feature of a random-access TFDS split."""

    def __init__(self, source: Sequence, text_key: str):
        self.source, self.text_key = source, text_key

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[str]:
        for index in range(len(self.source)):
            text = self.source[index][self.text_key]
            yield text.decode("utf-8") if isinstance(text, bytes) else text


def _tfds_documents(name: str, split: str, data, cache_dir: Path) -> TfdsDocuments:
    from scaling.data import corpus, tfds_names  # noqa: F401  corpus registers python_sources

    builder = tfds_names.prepare(name, "language", cache_dir)
    tfds_names.require(builder, (data.text_key,), name, f"config.data.text_key={data.text_key!r}")
    return TfdsDocuments(tfds_names.records(builder, split, name), data.text_key)
