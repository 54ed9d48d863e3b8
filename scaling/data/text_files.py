"""Read the documents of text, JSON lines, Parquet and saved `datasets` files, one at a time.

A document is text: not blank, valid UTF-8, without NUL bytes. config.data.errors says what happens
to another one. Documents of more than 2^20 characters come in pieces.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaling.data import file_names, text_pieces, text_rows
from scaling.data.faults import REPLACE, Faults
from scaling.utils import compressed
from scaling.utils.errors import UserError

NAMES = ("text", "jsonl", "parquet", "hf")
CHUNK = 1 << 20  # characters
NOT_TEXT = re.compile("[\0\ud800-\udfff]")  # NUL, and bytes that are not UTF-8
ROWS = {"jsonl": text_rows.json_lines, "parquet": text_rows.parquet, "hf": text_rows.arrow}


class TextFiles:
    """The documents of `files`, in this order. `faults` has the counts of the last reading."""

    def __init__(self, data, files: list[Path]):
        self.name, self.key, self.files = data.name, data.text_key, files
        self.separator = text_pieces.pattern(data.separator)
        self.errors = data.errors
        self.faults = Faults(data.errors)

    def __iter__(self) -> Iterator[str]:
        self.faults = Faults(self.errors)
        broken = text_rows.broken()
        for file in self.files:
            if not file.stat().st_size:
                self.faults.refuse("empty file", str(file), "remove it")
                continue
            before = sum(self.faults.counts.values())
            found = False
            try:
                for text in self._texts(file) if self.name == "text" else self._rows(file):
                    found = True
                    yield text
            except broken as error:
                self.faults.refuse(text_rows.damage(error), str(file), "copy it again")
            if not found and sum(self.faults.counts.values()) == before:
                self.faults.refuse("no document", str(file), "remove it")

    def _texts(self, file: Path) -> Iterator[str]:
        stream, _ = compressed.opened(file)
        # what is not UTF-8 becomes lone surrogates, which `_checked` finds
        with io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape") as decoded:
            chunks = iter(lambda: decoded.read(CHUNK), "")
            for number, text in enumerate(text_pieces.split(chunks, self.separator), start=1):
                checked = self._checked(text, f"{file} document {number:,}")
                if checked is not None:
                    yield checked

    def _rows(self, file: Path) -> Iterator[str]:
        unit = "line" if self.name == "jsonl" else "row"
        for number, value in ROWS[self.name](file, self.key, self.faults):
            checked = self._checked(value, f"{file} {unit} {number:,}")
            if checked is not None:
                yield from text_pieces.pieces(checked, text_pieces.LONGEST)

    def _checked(self, value: Any, place: str) -> str | None:
        """Return a document, repaired if errors are replaced, or None to leave it out."""
        if value is text_rows.MISSING:
            self.faults.refuse(f"no key {self.key!r}", place, "set config.data.text_key")
            return None
        if not isinstance(value, str):
            kind = "null" if value is None else type(value).__name__
            self.faults.refuse(
                f"{self.key!r} is {kind}, not text", place, "set config.data.text_key"
            )
            return None
        if not value or value.isspace():
            if self.name != "text":  # between two separators, nothing is no document
                self.faults.count("blank", place)
            return None
        fault = NOT_TEXT.search(value) if "\0" in value or not _encodes(value) else None
        if fault is None:
            return value
        reason = "a NUL byte, so it is not text" if fault[0] == "\0" else "not UTF-8"
        if self.errors != REPLACE:
            before = value[max(0, fault.start() - 20) : fault.start()]
            after = f"after {before!r}, convert it" if before else "at its start, convert it"
            self.faults.refuse(reason, place, f"{after}, repair it: config.data.errors=replace")
            return None
        self.faults.count(f"repaired: {reason}", place)
        return NOT_TEXT.sub("\ufffd", value)


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class HubDocuments(TextFiles):
    """The documents of a split of a data set on the Hugging Face hub, streamed."""

    def __init__(self, data, split: str):
        super().__init__(data, [])
        self.path, self.split = data.path, split

    def __iter__(self) -> Iterator[str]:
        try:
            import datasets
        except ImportError as error:
            raise UserError(
                f"config.data.path={self.path}: no such folder, and names of the hub need the "
                "package datasets; pip install 'scaling[hf]'"
            ) from error
        self.faults = Faults(self.errors)
        name, _, subset = self.path.partition(":")
        try:
            rows = datasets.load_dataset(name, subset or None, split=self.split, streaming=True)
            for number, row in enumerate(rows, start=1):
                value = text_rows.value_of(row, self.key)
                checked = self._checked(value, f"{self.path} row {number:,}")
                if checked is not None:
                    yield from text_pieces.pieces(checked, text_pieces.LONGEST)
        except UserError:
            raise
        except Exception as error:  # the library and the network raise many types
            raise file_names.unreachable(self.path, error) from error
