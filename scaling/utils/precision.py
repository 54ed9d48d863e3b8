"""Print numbers as precisely as their intervals and standard errors know them, and no more.

Both show two significant digits of half an interval or of an error: 1.336 [1.234, 1.455] is known
to 0.11, and prints as 1.34 [1.23, 1.46]. Files hold all digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

DIGITS = 2  # significant digits of half an interval, or of a standard error
UNKNOWN = 4  # significant digits of a number whose precision is not known
# A value this many times smaller than half its interval is known by a factor, and each number has
# two digits of its own, unless the lower end is zero but for rounding.
SMALL, ZERO = 4.0, 1e-6


def texts(value: float, low: float, high: float) -> tuple[str, str, str]:
    """Return value and ends of an interval as text; for NaN, "-" and ends ""."""
    if math.isnan(value):
        return "-", "", ""
    if math.isnan(low) or math.isnan(high):
        return f"{value:.{UNKNOWN}g}", "", ""
    numbers = value, low, high
    finite = [x for x in numbers if math.isfinite(x)]
    spread = (max(finite) - min(finite)) / 2 if finite else 0.0
    if 0 < SMALL * value < spread and low > ZERO * high:
        made = [_significant(x, DIGITS) for x in numbers]
    else:
        made = [_to(x, spread, max(map(abs, finite), default=0.0)) for x in numbers]
    return made[0], made[1], made[2]


def with_interval(value: float, low: float, high: float) -> str:
    """Format as "0.39 [0.13, 0.65]", or "0.3882 [no interval]" for ends that are NaN."""
    text, *ends = texts(value, low, high)
    return f"{text} [{', '.join(ends) if ends[0] else 'no interval'}]"


def of_dict(interval: Mapping[str, float]) -> str:
    """`with_interval` of the keys value, low and high."""
    return with_interval(interval["value"], interval["low"], interval["high"])


def with_error(value: float, error: float | None) -> str:
    """Format as "1.330 +- 0.010"; None states no error, NaN is that of a single draw."""
    if error is None or not math.isfinite(error):
        return f"{value:.4f}" + ("" if error is None else " (one draw, no standard error)")
    return " +- ".join(_to(x, error, max(abs(value), error)) for x in (value, error))


def rounded(value: float, error: float | None) -> str:
    """Format the value of `with_error` alone."""
    return with_error(value, error).split(" ")[0]


def _to(x: float, spread: float, largest: float) -> str:
    """Round to two digits of `spread`; `largest` decides between fixed and scientific notation."""
    if not math.isfinite(x):
        return f"{x:g}"
    if not spread > 0:
        return f"{x:.{UNKNOWN}g}"
    place = math.floor(math.log10(spread)) - DIGITS + 1  # power of ten of the last digit
    if 1e-4 <= largest < 1e6:
        return f"{round(x, -place) + 0.0:.{max(0, -place)}f}"
    digits = math.floor(math.log10(abs(x))) - place + 1 if x else 1
    return _significant(x, max(1, digits))


def _significant(x: float, digits: int) -> str:
    if not math.isfinite(x) or not x:
        return f"{x:g}"
    rounded = float(f"{x:.{digits - 1}e}")
    if 1e-4 <= abs(rounded) < 1e6:
        return f"{rounded:.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"
    return f"{rounded:.{digits - 1}e}"
