"""Read numbers as people and spreadsheets write them: 12M, 53.3%, 10 000, 1,234.5 or 1.234,5.

A comma or point before three digits may be a decimal mark or may group thousands. All cells of the
columns that are used decide it together. Where they leave a doubt or contradict each other, the
caller must state the decimal mark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scaling.utils import parse
from scaling.utils.errors import UserError

LONGEST = 40  # characters of a cell in a message
DECIMALS = {"": "", "comma": ",", "point": "."}  # of --decimal
DECIMAL, THOUSANDS = "decimal", "thousands"
# Kinds of quantities: a count may have thousands and suffixes, a share a percent sign.
COUNT, FLOPS, SHARE, PLAIN = "count", "flops", "share", "plain"

_CELL = re.compile(
    r"(?P<sign>[+-]?)(?P<core>[\d.,'\u2019_ \u00a0\u2009\u202f]*\d[.,]?)(?P<exponent>[eE][+-]?\d+)?"
    r"(?P<rest>\s*[^\d\s].*)?"
)
_SPACES = re.compile(r"['\u2019_ \u00a0\u2009\u202f]")
_GROUP = re.compile(r"[1-9]\d{0,2}(,\d{3})|[1-9]\d{0,2}(\.\d{3})")  # either reading is possible
_SPACED = re.compile(r"\d{1,3}(?:(['\u2019_ \u00a0\u2009\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d*)?")
_WORDS = {
    "thousand": "k", "million": "M", "mio": "M", "mn": "M", "billion": "B", "bn": "B",
    "trillion": "T",
}  # fmt: skip
_UNITS = re.compile(r"\s*(params?|parameters|tokens?)$")
_FLOPS = re.compile(r"(?P<prefix>[kMGTPEZ]?)FLOPs?$|(?P<days>P(?:FLOPs?|F)[ /-]?days?)$")
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21}
PFLOP_DAY = 8.64e19  # FLOPs


def cut(text: object, quoted: bool = True) -> str:
    """Return a cell for a message, at most 40 characters of it, on one line."""
    short = " ".join(str(text).split()) if not quoted else str(text)
    short = short if len(short) <= LONGEST else f"{short[: LONGEST - 1]}…"
    return repr(short) if quoted else short


def is_number(text: str) -> bool:
    """Return whether a cell is a number in some style."""
    match = _CELL.fullmatch(text.strip())
    return match is not None and len((match["rest"] or "").strip()) < 3


@dataclass(frozen=True)
class Style:
    """The roles of the comma and the point in a column: DECIMAL, THOUSANDS, or "" if in doubt."""

    comma: str = ""
    point: str = DECIMAL


@dataclass(frozen=True)
class Place:
    """A cell and its place, for messages."""

    row: str
    column: str
    text: str

    def __str__(self) -> str:
        return f"{self.row} has {self.column}={cut(self.text)}"


def styles(
    columns: Mapping[str, Sequence[tuple[str, str]]], kinds: Mapping[str, str], decimal: str = ""
) -> dict[str, Style]:
    """Return the style of each column of (row, cell). `decimal` is "comma", "point" or "".

    Raises UserError naming cells that contradict each other or may be read in two ways.
    """
    if decimal not in DECIMALS:
        raise UserError(f"--decimal={decimal}: choose comma or point")
    if decimal:
        stated = Style(DECIMAL, THOUSANDS) if decimal == "comma" else Style(THOUSANDS, DECIMAL)
        return dict.fromkeys(columns, stated)
    if not any("," in cell or cell.count(".") > 1 for rows in columns.values() for _, cell in rows):
        return dict.fromkeys(columns, Style())
    own = {
        name: _roles(Place(row, name, cell) for row, cell in rows) for name, rows in columns.items()
    }
    whole: dict[tuple[str, str], Place] = {}
    for roles in own.values():
        whole = {**roles, **whole}
    for one, other in (
        ((",", DECIMAL), (",", THOUSANDS)),
        ((".", DECIMAL), (".", THOUSANDS)),
        ((",", DECIMAL), (".", DECIMAL)),
        ((",", THOUSANDS), (".", THOUSANDS)),
    ):
        if one in whole and other in whole:
            raise UserError(
                f"{whole[one]}, {whole[other]}: two ways to write numbers; mend one, or state "
                "--decimal=comma or --decimal=point"
            )
    found = {name: _style(own[name], set(whole), kinds[name]) for name in columns}
    for name, rows in columns.items():
        for row, cell in rows:
            group = _ambiguous(cell)
            if group and not getattr(found[name], "comma" if group == "," else "point"):
                raise UserError(
                    f"{Place(row, name, cell)}: a decimal {'comma' if group == ',' else 'point'} "
                    "or thousands? state --decimal=comma or --decimal=point"
                )
    return found


def _style(own: Mapping[tuple[str, str], Place], whole: set, kind: str) -> Style:
    """Return a column's style from its own cells and those of the whole table."""
    if (",", DECIMAL) in whole or (".", THOUSANDS) in whole:
        # "10.000" is ten to a program and ten thousand to a person: the column itself must tell
        return Style(DECIMAL, THOUSANDS if (".", THOUSANDS) in own else "")
    if (",", THOUSANDS) in own:
        return Style(THOUSANDS, DECIMAL)
    if whole and kind in (COUNT, FLOPS):  # the point is decimal elsewhere
        return Style(THOUSANDS, DECIMAL)
    return Style("", DECIMAL)


def _parts(text: str) -> tuple[str, bool]:
    """Return (digits and marks of a number, whether it has an exponent); ("", False) if none."""
    match = _CELL.fullmatch(text.strip())
    return (_SPACES.sub("", match["core"]), bool(match["exponent"])) if match else ("", False)


def _ambiguous(text: str) -> str:
    """Return the mark of a cell such as 1,234 or 1.234, which has two readings; else ""."""
    core, exponent = _parts(text)
    return core.lstrip("0123456789")[0] if not exponent and _GROUP.fullmatch(core) else ""


def _roles(places: Iterable[Place]) -> dict[tuple[str, str], Place]:
    """Return the proven (mark, role) pairs, each with the first cell that proves it."""
    found: dict[tuple[str, str], Place] = {}
    for place in places:
        core, exponent = _parts(place.text)
        marks = [c for c in core if c in ",."]
        if not marks or (not exponent and _GROUP.fullmatch(core)):
            continue
        last = marks[-1]
        if len(set(marks)) == 2:
            other = "," if last == "." else "."
            roles = [(last, DECIMAL), (other, THOUSANDS)]
        else:
            roles = [(last, DECIMAL if len(marks) == 1 else THOUSANDS)]
        style = Style(**{"comma" if m == "," else "point": role for m, role in roles})
        if _plain(core, style) is not None:
            for role in roles:
                found.setdefault(role, place)
    return found


def _plain(core: str, style: Style) -> str | None:
    """Return digits and marks as Python writes them, without groups; None if they are not such."""
    roles = {",": style.comma, ".": style.point}
    decimal = next((m for m, role in roles.items() if role == DECIMAL and m in core), "")
    whole, _, fraction = core.partition(decimal) if decimal else (core, "", "")
    for mark in ",.":
        if mark in fraction:
            return None
        if mark in whole:
            first, *groups = whole.split(mark)
            if roles[mark] != THOUSANDS or not 1 <= len(first) <= 3:
                return None
            if any(len(group) != 3 or not group.isdigit() for group in groups):
                return None
            whole = whole.replace(mark, "")
    return f"{whole}.{fraction}" if decimal else whole


def value(text: str, style: Style, kind: str) -> tuple[float, str]:
    """Return (the number of a cell, its feature to report: "suffix", "percent", ... or "").

    Raises ValueError if the cell is no number of this kind.
    """
    text = text.strip()
    if not text.isascii() and any(c.isdigit() and not c.isascii() for c in text):
        raise ValueError  # digits of other scripts
    if "_" not in text and (style.point == DECIMAL or "." not in text):
        try:
            return float(text), ""
        except ValueError:
            pass
    match = _CELL.fullmatch(text)
    if not match:
        raise ValueError
    core, rest = match["core"], (match["rest"] or "").strip()
    feature = ""
    if _SPACES.search(core):
        if not _SPACED.fullmatch(core) or kind not in (COUNT, FLOPS):
            raise ValueError
        core, feature = _SPACES.sub("", core), "thousands"
    digits = _plain(core, style)
    if digits is None or (kind in (SHARE, PLAIN) and THOUSANDS in _used(core, style)):
        raise ValueError
    if THOUSANDS in _used(core, style):
        feature = "thousands"
    elif "," in core:
        feature = "decimal comma"
    number = f"{match['sign']}{digits}{match['exponent'] or ''}"
    if not rest:
        return float(number), feature
    if rest == "%" and kind == SHARE:
        return float(parse.number(number) / 100), "percent"
    factor, suffix = _suffix(rest, kind)
    made = parse.number(number + suffix) * factor
    if not math.isfinite(made):
        raise ValueError
    return made, "suffix"


def _used(core: str, style: Style) -> set[str]:
    return {role for m, role in ((",", style.comma), (".", style.point)) if m in core}


def _suffix(rest: str, kind: str) -> tuple[float, str]:
    """Return (factor, suffix of `parse.number`) of what follows a number. Raises ValueError."""
    if kind == FLOPS:
        match = _FLOPS.match(rest)
        if match:
            return (PFLOP_DAY if match["days"] else PREFIXES[match["prefix"]]), ""
    if kind in (COUNT, FLOPS):
        rest = _UNITS.sub("", rest) if kind == COUNT else rest
        rest = _WORDS.get(rest.lower(), rest)
        folded = {"k": "k", "m": "M", "b": "B", "g": "G", "t": "T", "": ""}.get(rest.lower())
        if folded is not None:  # a count is no thousandth, so 12m are millions
            return 1.0, folded
    raise ValueError


def in_name(name: str, key: str = "") -> float:
    """Return the number that a file's name states, as "70M" in "pythia-70M-seed1".

    With `key` the number after it: "N" in "N=70M_D=2B". Without it the name must hold one number,
    or one with a suffix of thousands, millions or billions. Raises ValueError.
    """
    number = r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[kKmMbBgGtT]?(?![A-Za-z\d])"
    if key:
        found = re.findall(rf"(?<![A-Za-z]){re.escape(key)}[=_ -]?({number})", name)
    else:
        found = re.findall(rf"(?<![\w.])({number})", re.sub(r"[_=/]", " ", name))
        if len(found) > 1:
            found = [text for text in found if text[-1].isalpha()] or found
    if len(set(found)) != 1:
        raise ValueError
    return value(found[0], Style(), COUNT)[0]
