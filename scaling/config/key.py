"""The declaration of a config key: default, unit, range and meaning, and what depends on its value.

configs/base.py declares each key with one of the functions at the end of this file. In files and
hashes 0, -1 or "" stands for None and "auto", as in the first version: run ids stay, and older
programs read newer workdirs. A key whose default was encoded in this way states it as `old`.
"""

from __future__ import annotations

import ast
import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict, FieldReference

from scaling.utils import parse
from scaling.utils.errors import shown
from scaling.utils.registry import MLPS as MLPS  # for configs/base.py
from scaling.utils.registry import OPTIMIZERS as OPTIMIZERS
from scaling.utils.registry import SCHEDULES as SCHEDULES
from scaling.utils.registry import Registry

AUTO = "auto"
LARGEST = 2**63 - 1  # whole number that files and programs hold
TUPLE_FORMS = "a tuple: (1e11, 2e11) or 1e11,2e11"


@dataclass(frozen=True)
class Range:
    """The values that a number may have."""

    text: str
    holds: Callable[[float], bool]


ANY = Range("any number", lambda x: True)
POSITIVE = Range("positive", lambda x: x > 0)
NOT_NEGATIVE = Range("0 or more", lambda x: x >= 0)
FRACTION = Range("between 0 and 1", lambda x: 0 <= x <= 1)
POSITIVE_FRACTION = Range("positive and at most 1", lambda x: 0 < x <= 1)
LESS_THAN_ONE = Range("0 or more and less than 1", lambda x: 0 <= x < 1)
UP_TO_1000 = Range("from 0 to 1,000", lambda x: 0 <= x <= 1000)
AT_MOST_1000 = Range("from 1 to 1,000", lambda x: 1 <= x <= 1000)  # one by one, in a loop
AT_MOST_4096 = Range("from 1 to 4,096", lambda x: 1 <= x <= 4096)
SECONDS = Range("positive and at most 1e9", lambda x: 0 < x <= 1e9)  # threads wait no longer
AT_MOST_100_000 = Range("from 1 to 100,000", lambda x: 1 <= x <= 100_000)
MORE_THAN_ONE = Range("above 1", lambda x: x > 1)
SEED = Range(f"from 0 to {2**31 - 1}", lambda x: 0 <= x < 2**31)  # programs take it as int32
SIZE_OR_REST = Range("1 or more, or -1 for all remaining devices", lambda x: x >= 1 or x == -1)


@dataclass(frozen=True)
class Key:
    """One config key."""

    type: type  # of each value but None and "auto": int, float, bool, str or tuple
    default: Any
    meaning: str  # one sentence
    unit: str = ""  # of a number, or of the numbers in a tuple
    range: Range | None = None  # of a number, or of the numbers in a tuple
    whole: bool = False  # the numbers in a tuple are whole
    choices: tuple[str, ...] = ()
    registry: Registry | None = None  # plugins add names to it
    fields: tuple[str, ...] = ()  # in other fields the key keeps its default; () = all use it
    # None = as the section states
    program: bool | None = None  # the compiled program depends on the key
    names: str | None = None  # what a change renames: "run" (and its sweep), "sweep" or "nothing"
    since: int | None = None  # schema that brought it; later keys name no run by their default
    later: bool = False  # at its default it names no sweep either, see `since`
    several: bool = False  # a list of texts stands for one text with commas
    old: Mapping[Any, Any] = dataclasses.field(default_factory=dict)  # value -> encoding in files

    def decode(self, value: Any) -> Any:
        """Return a value from a file, a study or an override as the program uses it."""
        if self.type is float and type(value) is int and _is_plain(value):
            value = float(value)
        elif self.type is tuple and type(value) is list:
            value = tuple(value)
        elif self.several and type(value) in (list, tuple) and set(map(type, value)) == {str}:
            value = ",".join(value)
        for new, old in self.old.items():
            if type(value) is type(old) and value == old:
                return new
        return value

    def encode(self, value: Any) -> Any:
        """Return a value as files and hashes hold it."""
        for new, old in self.old.items():
            if type(value) is type(new) and value == new:
                return old
        return value

    def problem(self, value: Any) -> str:
        """Return the end of a sentence that begins with key and value, or "" for a good value."""
        if self._is_word(value):
            return ""
        if type(value) is not self.type:
            return f" should be of type {self._or_words(self.type.__name__)}"
        choices = self.registry.names() if self.choices and self.registry else self.choices
        if choices and value not in choices:
            return f": choose one of {', '.join(choices)}"
        if isinstance(value, tuple) and not _is_plain_tuple(value):
            return " should hold numbers, texts, booleans, None or tuples of them"
        return self._beyond(value) if self.type in (int, float) else ""

    def problem_of_item(self, value: Any) -> str:
        """`problem` of one number in a tuple."""
        if type(value) not in (int, float) or not _is_plain(value):
            return " should be a number"
        if self.whole and (value != int(value) or value < 0):
            return " should be a whole number"
        return self._beyond(value)

    def _beyond(self, value: Any) -> str:
        if not _is_plain(value):
            return " should be a finite number"
        if (self.whole or self.type is int) and abs(value) > LARGEST:
            return f" should be at most {LARGEST:,}"
        if self.range is None or self.range.holds(value):
            return ""
        return f" should be {self._or_words(self.range.text)}"

    def _is_word(self, value: Any) -> bool:
        """Return whether the value is None or "auto" and the key allows it."""
        return (value is None or value == AUTO) and value in self.old

    def _or_words(self, text: str) -> str:
        words = [str(word) for word in (None, AUTO) if word in self.old]
        return ", or ".join([text, *words])

    def parse(self, text: str) -> Any:
        """Return the value that a command line spells. Raises ValueError naming the forms."""
        for word in (None, AUTO):
            same = str(word) == text or (self.type is not str and str(word).lower() == text.lower())
            if word in self.old and same:
                return word
        readers: dict[Any, Callable[[str], Any]] = {
            int: parse.whole_number,
            float: parse.number,
            bool: parse.boolean,
            tuple: self._items,
        }
        try:
            return self.decode(readers.get(self.type, str)(text))
        except ValueError as error:
            raise ValueError(self._or_words(str(error))) from None

    def _items(self, text: str) -> tuple:
        """Parse a tuple in Python's notation, with optional brackets and numbers like 1M."""
        try:
            value = ast.literal_eval(text)
        except (MemoryError, RecursionError):  # Python's parser at many brackets
            raise ValueError(f"too many brackets for {TUPLE_FORMS}") from None
        except (SyntaxError, ValueError) as error:
            if self.unit and text.count("(") == text.count(")"):
                read = parse.whole_number if self.whole else parse.number
                return tuple(read(part) for part in text.strip("([])").split(",") if part.strip())
            if isinstance(error, SyntaxError) and ("," in text or " " in text):
                raise ValueError(f"{shown(text)} is not {TUPLE_FORMS}") from None
            words = tuple(part.strip() for part in text.split(","))
            value = words if all(w.replace(".", "_").isidentifier() for w in words) else text
        return tuple(value) if isinstance(value, tuple | list | set) else (value,)


_plain: dict[int, tuple] = {}  # by id, and held, so that no other tuple gets the id


def _is_plain_tuple(value: tuple) -> bool:
    """`_is_plain`, once per object: all runs of a sweep share the tuples of its config."""
    if _plain.get(id(value)) is not value:
        if not _is_plain(value):
            return False
        if len(_plain) == 1000:
            _plain.clear()
        _plain[id(value)] = value
    return True


def _is_plain(value: Any, depth: int = 6) -> bool:
    """Return whether files can hold a value: no object, no infinity, no deeper tuple."""
    if type(value) in (tuple, list):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    if type(value) in (int, float):
        return abs(value) <= sys.float_info.max  # False for nan
    return value is None or type(value) in (str, bool)


class Section:
    """Keys below one name; `names`, `program` and `since` hold for those that state no other."""

    def __init__(self, names: str = "run", program: bool = False, since: int = 1):
        self.__dict__["_stated"] = {"names": names, "program": program, "since": since}

    def __setattr__(self, name: str, value: Key | Section) -> None:
        assert name not in self.__dict__, f"{name} is declared twice"
        if isinstance(value, Key):
            missing = {k: v for k, v in self._stated.items() if getattr(value, k) is None}
            value = dataclasses.replace(value, **missing)
        self.__dict__[name] = value

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)  # tells a type checker that attributes are declared at run time

    def flat(self) -> dict[str, Key]:
        """Return the keys by their dotted names, in the order of their declaration."""
        keys: dict[str, Key] = {}
        for name, value in self.__dict__.items():
            if isinstance(value, Section):
                keys |= {f"{name}.{inner}": key for inner, key in value.flat().items()}
            elif isinstance(value, Key):
                keys[name] = value
        return keys


def defaults(keys: Mapping[str, Key]) -> ConfigDict:
    """Return the defaults as a typed and locked config. None takes any type, and so does "auto"."""
    c = ConfigDict()
    for name, key in keys.items():
        section, _, inner = name.rpartition(".")
        if section and section not in c:
            c[section] = ConfigDict()
        any_type = key.default == AUTO and key.type is not str
        value = FieldReference(AUTO, field_type=object) if any_type else key.default
        (c[section] if section else c)[inner] = value
    return c.lock()


def whole(default: int | str | None, unit: str, range: Range, meaning: str, **more: Any) -> Key:
    """Declare a whole number."""
    return _key(int, default, meaning, unit=unit, range=range, **more)


def number(default: float | str | None, unit: str, range: Range, meaning: str, **more: Any) -> Key:
    """Declare a number."""
    return _key(float, default, meaning, unit=unit, range=range, **more)


def wholes(default: tuple[int, ...], unit: str, range: Range, meaning: str, **more: Any) -> Key:
    """Declare a tuple of whole numbers, checked where a sweep uses them."""
    return _key(tuple, default, meaning, unit=unit, range=range, whole=True, **more)


def numbers(default: tuple[float, ...], unit: str, range: Range, meaning: str, **more: Any) -> Key:
    """Declare a tuple of numbers, checked where a sweep uses them."""
    return _key(tuple, default, meaning, unit=unit, range=range, **more)


def items(default: tuple, meaning: str, **more: Any) -> Key:
    """Declare a tuple of anything else."""
    return _key(tuple, default, meaning, **more)


def switch(default: bool, meaning: str, **more: Any) -> Key:
    """Declare a boolean."""
    return _key(bool, default, meaning, **more)


def choice(
    default: str, choices: str, meaning: str, registry: Registry | None = None, **more: Any
) -> Key:
    """Declare one of several words, given as "a | b | c"; `registry` allows those of plugins."""
    words = tuple(choices.split(" | "))
    if registry:
        registry.shipped = words
    return _key(str, default, meaning, choices=words, registry=registry, **more)


def text(default: str | None, meaning: str, **more: Any) -> Key:
    """Declare a text."""
    return _key(str, default, meaning, **more)


def _key(type: type, default: Any, meaning: str, *, old: Any = None, **more: Any) -> Key:
    """`old` is the default's encoding, or a dict from values to theirs."""
    encodings = old if isinstance(old, dict) else {} if old is None else {default: old}
    return Key(type, default, meaning, old=encodings, **more)
