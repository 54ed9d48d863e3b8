"""Look up a field by name: its examples, the model's ends, the loss and the metrics.

Each field is one file; docs/fields.md shows how to add one.
"""

from __future__ import annotations

import importlib
from typing import cast

from scaling.config.field_traits import UNITS
from scaling.fields.field import Field


def of(name: str) -> Field:
    """Return the field of `config.data.field`, imported on first use."""
    if name not in UNITS:
        raise ValueError(f"unknown field {name!r}; choose one of {', '.join(UNITS)}")
    return cast(Field, importlib.import_module(f"scaling.fields.{name}"))
