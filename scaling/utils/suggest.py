"""Find the known name that an unknown one was most likely meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the entry of `known` most similar to `name`, ignoring case; None if none is close."""
    names = {entry.lower(): entry for entry in sorted(known, reverse=True)}
    close = difflib.get_close_matches(str(name).lower(), sorted(names), n=1)
    return names[close[0]] if close else None
