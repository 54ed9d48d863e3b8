"""Sources of labelled examples by the config's field and name."""

from __future__ import annotations

from pathlib import Path

from scaling.data import speech, vision
from scaling.data.labelled import Source
from scaling.utils.errors import UserError


def source(data, cache_dir: Path) -> Source:
    """The source of the config's `data` section. Raises UserError where it is missing or empty."""
    if data.field == "vision":
        return vision.source(data, cache_dir)
    if data.field == "speech":
        return speech.source(data, cache_dir)
    raise UserError(f"config.data.field={data.field!r} has no labelled examples")
