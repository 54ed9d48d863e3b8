"""Cut text into documents at a separator, and long documents into pieces."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

from scaling.utils.errors import UserError

LONGEST = 1 << 20  # characters of a piece
SHORTEST = 256  # characters of a piece of few documents
PIECES = 1000  # of few documents together
HELD_OUT = 5  # documents, expected on the smaller side of a split; fewer are cut inside
CONTEXT = 64  # characters before a place that a regex may look at
BLANK_LINE, REGEX = "blank_line", "re:"
SETTINGS = [LONGEST, SHORTEST, PIECES, HELD_OUT]  # part of a cache key


def pattern(separator: str | None) -> re.Pattern[str] | None:
    """Return config.data.separator as a pattern: `blank_line`, `re:REGEX`, or the text itself.

    Raises UserError if the regex is none, or matches the empty text.
    """
    if separator is None:
        return None
    if separator == BLANK_LINE:
        return re.compile(r"\n[^\S\n]*\n\s*")
    if not separator.startswith(REGEX):
        return re.compile(re.escape(separator))
    try:
        compiled = re.compile(separator.removeprefix(REGEX), re.MULTILINE)
    except re.error as error:
        raise UserError(f"config.data.separator={separator!r}: no regex ({error})") from error
    if compiled.fullmatch(""):
        raise UserError(f"config.data.separator={separator!r} matches between any two characters")
    return compiled


def split(chunks: Iterable[str], separator: re.Pattern[str] | None) -> Iterator[str]:
    """Yield the documents of a text that arrives in chunks, cut to pieces of at most LONGEST.

    Memory holds a piece and a chunk.
    """
    text, start = "", 0  # the text before `start` is context of the pattern
    for chunk in chunks:
        text += chunk
        for match in separator.finditer(text, start) if separator else ():
            if match.end() == len(text):  # the next chunk may lengthen it
                break
            yield from pieces(text[start : match.start()], LONGEST)
            start = match.end()
        while len(text) - start > LONGEST:
            end = _end(text, start, LONGEST)
            yield text[start:end]
            start = end
        text, start = text[max(0, start - CONTEXT) :], min(start, CONTEXT)
    for match in separator.finditer(text, start) if separator else ():
        yield from pieces(text[start : match.start()], LONGEST)
        start = match.end()
    yield from pieces(text[start:], LONGEST)


def pieces(text: str, size: int) -> Iterator[str]:
    """Yield a text in pieces of at most `size` characters, cut at the best place of each end."""
    start = 0
    while len(text) - start > size:
        end = _end(text, start, size)
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _end(text: str, start: int, size: int) -> int:
    """Return where a piece ends: after a blank line, a line or a space in its second half."""
    middle, end = start + size // 2, start + size
    for mark in ("\n\n", "\n", " "):
        if (place := text.rfind(mark, middle, end)) >= 0:
            return place + len(mark)
    return end


class Pieces:
    """Documents, cut into pieces of at most `size` characters."""

    def __init__(self, documents: Iterable[str], size: int):
        self.documents, self.size = documents, size

    def __iter__(self) -> Iterator[str]:
        for text in self.documents:
            yield from pieces(text, self.size)


def enough(documents: Iterable[str], fraction: float) -> Iterable[str]:
    """Return the documents, or pieces of them if too few to hold out `fraction`."""
    least, size = min(fraction, 1 - fraction), 0
    needed = math.ceil(HELD_OUT / least) if least else 0
    for count, text in enumerate(documents):
        if count == needed - 1 or not needed:
            return documents
        size += len(text)
    return Pieces(documents, max(SHORTEST, size // PIECES))
