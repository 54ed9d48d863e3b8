"""Check the schema number of a workdir's files, so that an old program refuses newer files.

The number increases by one whenever an older program would misread new files. Files without a
number have schema 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaling.utils.errors import UserError

SCHEMA = 2


def refuse_newer(values: Mapping[str, Any], source: str | Path, newest: int = SCHEMA) -> None:
    """Raise UserError if `values`, the content of `source`, have a schema above `newest`."""
    schema = values.get("schema", 1)
    if not isinstance(schema, int) or schema > newest:
        raise UserError(
            f"{source} was written by a newer version of scaling (schema {schema!r}, this one "
            f"reads up to {newest}); update scaling"
        )
