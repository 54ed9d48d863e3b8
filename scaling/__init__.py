"""Scaling laws in JAX: from a config to a fitted and tested law.

`import scaling` loads nothing heavy. Each public name loads its module when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling.export.loaded import load
    from scaling.laws.api import (
        FORMS,
        Objective,
        compute_equivalent_gain,
        fit,
        fit_isoflop,
        forecast,
        make_table,
        propose,
        read_csv,
    )

    __version__: str

__all__ = [
    "FORMS",
    "Objective",
    "__version__",
    "compute_equivalent_gain",
    "fit",
    "fit_isoflop",
    "forecast",
    "load",
    "make_table",
    "propose",
    "read_csv",
]


def __getattr__(name: str) -> Any:
    """Load a public name. Raises AttributeError if the package has none such."""
    if name == "__version__":
        from importlib import metadata

        return metadata.version("scaling")
    if name == "load":
        from scaling.export import loaded

        return loaded.load
    if name in __all__:
        from scaling.laws import api

        return getattr(api, name)
    raise AttributeError(f"module 'scaling' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
