"""The number that files of a workdir carry, so that an older program does not misread a newer one's.

Raised by one whenever an older program would misread what this one writes. Files without a number are
of schema 1, from before there was one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.utils.errors import UserError

SCHEMA = 2


def refuse_newer(values: Mapping[str, Any], source: str | Path) -> None:
    """Raises UserError where `values`, the content of `source`, are of a schema unknown here."""
    found = values.get("schema", 1)
    if not isinstance(found, int) or found > SCHEMA:
        raise UserError(
            f"{source} was written by a newer version of scaling (schema {found!r}, this one reads "
            f"up to {SCHEMA}); update scaling"
        )
