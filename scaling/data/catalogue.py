"""Return the source of labelled examples that a config names."""

from __future__ import annotations

from pathlib import Path

from scaling.data import speech, vision
from scaling.data.labelled import Source
from scaling.utils.errors import UserError


def source(data, cache_dir: Path) -> Source:
    """Return the source of the config's `data` section. Raises UserError if it has no data."""
    if data.field == "vision":
        return vision.source(data, cache_dir)
    if data.field == "speech":
        return speech.source(data, cache_dir)
    raise UserError(f"config.data.field={data.field!r} has no labelled examples")
