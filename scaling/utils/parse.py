"""Parse the numbers, booleans and durations that people write on a command line."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

from scaling.utils.errors import shown

SUFFIXES = {"k": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
WHOLE_FORMS = "a whole number: 1000000, 1_000_000, 1e6, 1M or 2.5B"
NUMBER_FORMS = "a number: 0.003, 3e-3, 1_000, 1M or 2.5B"
BOOLEAN_FORMS = "true, false, yes, no, 1 or 0"
DURATION_FORMS = "a duration: 90s, 10m, 2h or 3d"
_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "1", "t"), True),  # t and f as absl's flags take them
    **dict.fromkeys(("false", "no", "0", "f"), False),
}
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_DIGITS = re.compile(r"[+-]?(\d+(_\d+)*)?(\.\d*)?([eE][+-]?\d+)?")

_BASES = re.compile(r"0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+")  # as in Python


def whole_number(text: str) -> int:
    """Return "1e6", "1_000_000", "1M" or "2.5B" as an int. Raises ValueError naming these forms."""
    if _BASES.fullmatch(text):
        return int(text, 0)
    value = _decimal(text)
    if value is None or value != value.to_integral_value():
        raise ValueError(f"{shown(text)} is not {WHOLE_FORMS}")
    return int(value)


def number(text: str) -> float:
    """Return a finite float; suffixes as for `whole_number`. Raises ValueError naming the forms."""
    value = _decimal(text)
    if value is None or not math.isfinite(float(value)):
        raise ValueError(f"{shown(text)} is not {NUMBER_FORMS}")
    return float(value)


def boolean(text: str) -> bool:
    """Return true for true, yes or 1, in any case. Raises ValueError naming the forms."""
    if text.strip().lower() not in _BOOLEANS:
        raise ValueError(f"{shown(text)} is not {BOOLEAN_FORMS}")
    return _BOOLEANS[text.strip().lower()]


def seconds(text: str) -> float:
    """Return a duration such as "90s", "10m", "2h" or "3d" in seconds. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h|d)\s*", text)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{shown(text)} is not {DURATION_FORMS}")
    return float(match[1]) * _SECONDS[match[2]]


def _decimal(text: str) -> Decimal | None:
    """Return the exact value of a number with an optional suffix; None if the text is not one."""
    text = text.strip()
    factor = SUFFIXES.get(text[-1:], 1)
    digits = text[:-1] if text[-1:] in SUFFIXES else text
    if not digits or not _DIGITS.fullmatch(digits) or not any(c.isdigit() for c in digits):
        return None
    try:
        value = Decimal(digits.replace("_", ""))
    except InvalidOperation:
        return None
    return value * factor if abs(value.adjusted()) < 400 else None
