"""Types of flag values, as `argparse` takes them: an error names the accepted forms."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

from scaling.utils import parse


def _argument(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `convert` with its ValueError as the error of an argument."""

    def argument(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return argument


def _positive(text: str) -> float:
    value = parse.number(text)
    if value <= 0:
        raise ValueError(f"{text!r} is not positive; give {parse.NUMBER_FORMS}")
    return value


def _count(text: str) -> int:
    value = parse.whole_number(text)
    if value < 1:
        raise ValueError(f"{text!r} is below 1; give {parse.WHOLE_FORMS}")
    return value


def _bound(text: str) -> float:
    return math.inf if text.strip().lower() == "inf" else parse.number(text)


def or_unset(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return `convert` with "" as None, so that a script may write --flag=$UNSET."""
    return lambda text: None if text == "" else convert(text)


whole_number = _argument(parse.whole_number)
number = _argument(parse.number)
boolean = _argument(parse.boolean)
seconds = _argument(parse.seconds)
bound = _argument(_bound)  # a number or inf
positive = _argument(_positive)  # a number above 0
count = _argument(_count)  # a whole number from 1


def add_switch(parser: argparse.ArgumentParser, name: str, help: str) -> None:
    """Add a flag that is true where it stands alone and takes true, false, yes, no, 1 or 0."""
    parser.add_argument(
        name, nargs="?", const=True, default=False, type=boolean, metavar="yes|no", help=help
    )
