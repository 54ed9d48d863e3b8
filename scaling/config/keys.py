"""The declared keys, and configs in the encodings of programs and of files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaling.config.flat_dict import flatten
from scaling.config.key import Key
from scaling.configs import base

KEYS: dict[str, Key] = base.KEYS
# Keys with values that files and hashes encode in another way.
ENCODED = {name: key for name, key in KEYS.items() if key.old}
PROGRAM = frozenset(name for name, key in KEYS.items() if key.program)
DEFAULTS = flatten(base.get_config())  # in the order of configs, which is alphabetical


def encode(name: str, value: Any) -> Any:
    """Return a key's value as files and hashes hold it."""
    return ENCODED[name].encode(value) if name in ENCODED else value


def encoded(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat config, or a part of one, as files and hashes hold it."""
    return {name: encode(name, value) for name, value in flat.items()}


def decoded(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flat config from a file or a study as programs use it; unknown keys stay."""
    return {
        name: KEYS[name].decode(value) if name in KEYS else value for name, value in flat.items()
    }


def named_by(*kinds: str) -> frozenset[str]:
    """Return the keys whose `names` is one of these."""
    return frozenset(name for name, key in KEYS.items() if key.names in kinds)
