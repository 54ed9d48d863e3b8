"""Load a study's config with its overrides; read and write configs as JSON. Errors name the key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling.config import study_file
from scaling.config.check import check_flat, unknown_key
from scaling.config.flat_dict import flatten, nested
from scaling.config.hashing import run_hash as run_hash
from scaling.config.hashing import run_id as run_id
from scaling.config.hashing import sweep_hash as sweep_hash
from scaling.config.keys import DEFAULTS, KEYS, decoded, encoded
from scaling.config.steps import held_out_rows as held_out_rows
from scaling.config.steps import merge_steps as merge_steps
from scaling.config.steps import schedule_steps as schedule_steps
from scaling.config.steps import targets_per_row as targets_per_row
from scaling.config.steps import tokens_per_step as tokens_per_step
from scaling.configs import base
from scaling.utils import files, plugins
from scaling.utils.errors import Preempted, UserError, shortened
from scaling.utils.file_version import SCHEMA, refuse_newer

FOLDERS = "plugin_folders"  # in files, beside the keys


def base_config() -> ConfigDict:
    """Return the defaults of configs/base.py."""
    return base.get_config()


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Return the config of `path` with `--config.key=value` overrides, checked and locked.

    `path` is a file, or the bare name of a study in configs/. It may end in ":argument" for the
    study's get_config. Raises UserError that names the file, the key or the value.
    """
    if not path:
        raise UserError("--config is missing; try --config=quickstart")
    values = parse_overrides(overrides)
    name, colon, argument = path.partition(":")
    file = study_file.find(name)
    try:
        study = study_file.call(file, *([argument] if colon else []))
        _override(study, values)  # before flattening: other keys may refer to these
        flat = flatten(study)
    except (KeyboardInterrupt, Preempted):
        raise
    except BaseException as error:  # a study is arbitrary code: whatever it raises is bad input
        raise UserError(f"{path}: {study_file.reason(error, file)}") from error
    flat |= values
    plugins.load(flat.get("plugins", ()), [file.resolve().parent])
    return _checked(flat, source=path)


def _override(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Set the values of dotted keys that the config has, and of the keys that refer to them."""
    for name, value in values.items():
        section, _, inner = name.rpartition(".")
        holder = config.get(section) if section else config
        if holder is not None and inner in holder:
            with holder.ignore_type():
                holder[inner] = value


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values of `--config.key=value` arguments by key.

    The last of several values counts; tuples are joined. Raises UserError that names the key, the
    value and the accepted forms.
    """
    values: dict[str, Any] = {}
    for argument in overrides:
        name, equals, text = argument.removeprefix("--config.").partition("=")
        if name not in KEYS:
            raise UserError(f"--config.{name}: {unknown_key(name)}")
        key = KEYS[name]
        if not equals and key.type is not bool:
            raise UserError(f"--config.{name}: its value is missing; write --config.{name}=VALUE")
        try:
            value = key.parse(text if equals else "true")
        except ValueError as error:
            raise UserError(f"--config.{name}={shortened(text, 200)}: {error}") from None
        values[name] = values[name] + value if key.type is tuple and name in values else value
    return values


def from_dict(values: dict[str, Any], source: str = "config") -> ConfigDict:
    """Return a checked config from a nested dict; missing keys are refused."""
    return _checked(flatten(ConfigDict(values, convert_dict=True)), source)


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """Return a checked copy of `config` with dotted keys replaced."""
    return from_flat(replaced(flatten(config), values))


def from_flat(flat: Mapping[str, Any]) -> ConfigDict:
    """Return the locked config of a flat dict that was checked, see `replaced`."""
    return ConfigDict(nested(flat)).lock()


def replaced(flat: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checked copy of a flat dict with these keys replaced."""
    for key in values:
        if key not in flat:
            raise UserError(f"config.{key}: {unknown_key(key, flat)}")
    changed = {**flat, **decoded(values)}
    check_flat(changed, source="config")
    return changed


def _checked(flat: Mapping[str, Any], source: str) -> ConfigDict:
    """Raise UserError at the first key that is unknown, missing, of a wrong type or impossible."""
    flat = decoded(flat)
    check_flat(flat, source)
    return from_flat(flat)


def to_json(c: ConfigDict) -> dict[str, Any]:
    """Return what files hold: the config in their encoding, and the number of their schema.

    With plugins also the folders that readers look for them in, which are no part of the config.
    """
    content = json.loads(json.dumps(nested(encoded(flatten(c))), default=list))
    where = {FOLDERS: plugins.folders(c.plugins)} if c.plugins else {}
    return {"schema": SCHEMA, **where, **content}


def from_json(values: dict[str, Any], source: str | Path = "config") -> ConfigDict:
    """Return the config of a file. Lists become tuples, keys that it lacks get their default.

    Raises UserError naming `source` if a newer version wrote it, or if the config is a bad one.
    """

    def tuples(value):
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(tuples(v) for v in value) if isinstance(value, list) else value

    refuse_newer(values, source)
    with files.damage(source):
        try:
            plugins.load(values.get("plugins", ()), values.get(FOLDERS, ()))
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        filled, others = nested(DEFAULTS), ("schema", FOLDERS)
        for key, value in tuples({k: v for k, v in values.items() if k not in others}).items():
            inner = filled.get(key)
            filled[key] = {**inner, **value} if isinstance(inner, dict) else value
        return from_dict(filled, str(source))
