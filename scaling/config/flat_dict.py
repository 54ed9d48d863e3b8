"""Configs as flat dicts of dotted keys: cheap to copy, check and hash in plans of many runs."""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any

from ml_collections import ConfigDict


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Return the dotted keys and their values, in the config's order."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": v for inner, v in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inverse of `flatten`, as dicts within a dict."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        section, dot, inner = key.partition(".")
        if dot:
            tree.setdefault(section, {})[inner] = value
        else:
            tree[key] = value
    return tree


def view(flat: Mapping[str, Any]) -> Any:
    """Return attributes as of a ConfigDict (`v.model.width`), hundreds of times cheaper to make."""
    return _viewer(tuple(flat))(flat)


@functools.cache
def _viewer(keys: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Any]:
    """Return `view` of flat dicts with these keys: a named tuple of one named tuple per section."""
    tree = nested(dict.fromkeys(keys))
    makers = [itemgetter(k) if inner is None else _section(k, inner) for k, inner in tree.items()]
    config: Any = namedtuple("config", tree)  # type: ignore[misc]
    return lambda flat: config._make([make(flat) for make in makers])


def _section(name: str, inner: Iterable[str]) -> Callable[[Mapping[str, Any]], Any]:
    section: Any = namedtuple(name, inner)  # type: ignore[misc]
    keys = [f"{name}.{key}" for key in inner]
    return lambda flat: section._make([flat[key] for key in keys])
