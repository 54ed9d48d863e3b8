"""Split text into a header and rows of cells, by one of , ; tab | between the cells.

A row whose cells do not match the header is left out with the reason. A text in which most rows are
such is refused.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from scaling.utils import notices, number_text
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice
from scaling.utils.number_text import cut
from scaling.utils.table_objects import Records

SEPARATORS = {",": "','", ";": "';'", "\t": "tab", "|": "'|'"}
INVISIBLE = "\ufeff\u200b\u200e\u200f"


def read_separated(
    text: str, path: Path, separator: str, reading: list[Notice]
) -> tuple[list[str], Records, dict[int, str]]:
    """Return (header, rows, rows that do not match it with the reason). Raises UserError."""
    skipped = 0
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=.?\s*", first, re.IGNORECASE):  # of Excel
        separator, text, skipped = separator or first[4:5].strip("\r") or "\t", rest, 1
    comments = _comments(text)
    text = text.split("\n", comments)[-1]
    stated, separator = separator, separator or _separator(text, path)
    records = list(_records(text, separator, path, skipped + comments))
    if not records:
        raise UserError(f"{path}: empty file; it needs a header and a row per run")
    (_, names), *records = records
    header = [name.strip().strip(INVISIBLE).strip() for name in names]
    if header[0].startswith("#") and len(header) > 1:
        header[0] = header[0].lstrip("# ")
    said = []
    if header != names or f"{separator} " in text.lstrip().partition("\n")[0]:
        said.append("spaces around the names of columns removed")
    if separator != "," and not stated:
        said.append(f"cells separated by {SEPARATORS[separator]}")
    if comments:
        said.append(f"{comments} comment line(s) above the header skipped")
    reading += [Notice(notices.READ_AS, line) for line in said]
    filled = max((i for _, cells in records for i, cell in enumerate(cells, 1) if cell), default=1)
    while len(header) > filled and not header[-1]:  # the separator ends every line
        header.pop()
    good, bad, count = [], {}, 0
    for number, cells in records:
        if not any(cell.strip("-:=") for cell in cells):  # empty, or the rule of a Markdown table
            continue
        count += 1
        while len(header) < len(cells) <= len(names) and not cells[-1]:
            cells.pop()
        problem = _problem(cells, header, separator) or _other_header(cells, header, number, path)
        if problem:
            bad[number] = problem
        else:
            good.append((number, cells))
    if len(bad) > len(good):
        number, problem = next(iter(bad.items()))
        raise UserError(
            f"{path}: {len(bad)} of {count} rows do not match the header; row {number}: {problem}"
        )
    return header, good, bad


def _comments(text: str) -> int:
    """Return the number of lines above the header that start with # and are not the header."""
    lines = text.split("\n", 50)
    count = 0
    while count < len(lines) - 1 and lines[count].startswith("#"):
        count += 1
    if count and number_text.is_number(re.split(r"[,;\t|]", lines[count])[0].strip('" ')):
        count -= 1  # "#N,D,loss" above a row of numbers is the header
    return count


def _other_header(cells: list[str], header: list[str], number: int, path: Path) -> str:
    """Return a reason if the cells repeat the header. Raises UserError at another header."""
    names = [cell.strip() for cell in cells]
    if names == header:
        return "repeats the header"
    known = [name for name in names if name in header and not number_text.is_number(name)]
    if 2 * len(known) > len(names) and not any(map(number_text.is_number, names)):
        raise UserError(
            f"{path}: row {number} is another header ({cut(', '.join(names))}), of columns in "
            "another order or with other names; make a file of each part"
        )
    return ""


def _problem(cells: list[str], header: list[str], separator: str) -> str:
    """Return why the cells cannot be told apart, or ""."""
    if len(cells) != len(header):
        text = f"{len(cells)} cells under {len(header)} columns"
        if len(cells) == 1 and any(mark in cells[0] for mark in SEPARATORS if mark != separator):
            return f"{text} ({cut(cells[0])}): another separator than the header's?"
        if len(cells) > len(header):
            hint = "decimal or thousands commas? quote such cells; or " if separator == "," else ""
            return f"{text}: {hint}a column without a name? name it in the header"
        return f"{text}: which one is missing? keep the separators of empty cells"
    for name, cell in zip(header, cells, strict=True):
        lines = cell.split("\n")
        if len(lines) > 1 and any(x.count(separator) >= max(len(header) - 2, 1) for x in lines):
            return f"cell {name}={cut(cell)} holds whole rows: a quote that closes too late?"
    return ""


def _records(
    text: str, separator: str, path: Path, skipped: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield (row of the file, cells), the header first. Raises UserError at a wrong quote."""
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    number, header = skipped, True
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise UserError(
                f'{path}: row {number}: a quote (") is not closed, or stands inside a quoted '
                "cell; close it, or double the inner one"
            ) from None
        if not header:
            yield number, [cell.strip() for cell in cells]
        elif any(cells):
            header = False
            yield number, cells


def _separator(text: str, path: Path) -> str:
    """Return the separator that the header names, or the one that splits the rows best."""
    first = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0]
    candidates = [mark for mark in SEPARATORS if mark in first]
    if len(candidates) < 2:
        return candidates[0] if candidates else ","
    scores = {}
    for mark in candidates:
        try:
            (_, header), *rows = _records(text, mark, path, 0)
        except (UserError, ValueError):
            continue
        fitting = [cells for _, cells in rows if len(cells) == len(header) > 1]
        if rows and len(fitting) > 0.9 * len(rows):
            numbers = sum(number_text.is_number(c) for cells in fitting for c in cells)
            scores[mark] = (numbers / sum(map(len, fitting)), len(header))
    best = sorted(scores, key=lambda mark: scores[mark], reverse=True)
    if not best or (len(best) > 1 and scores[best[0]][0] < scores[best[1]][0] + 0.1):
        names = " or ".join(SEPARATORS[mark] for mark in candidates)
        raise UserError(f"{path}: cells separated by {names}? state it with --separator")
    return best[0]
