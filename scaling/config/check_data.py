"""What the config's `data` section must satisfy together: each key for the fields that it is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scaling.config.constraints import LABELLED

LANGUAGE = ("language",)
# Keys that only these fields use; elsewhere they stay at their default.
ONLY_FOR = {
    "clean": LANGUAGE,
    "min_chars": LANGUAGE,
    "max_chars": LANGUAGE,
    "min_letters": LANGUAGE,
    "dedupe": LANGUAGE,
    "near_threshold": LANGUAGE,
    "unique_tokens": (*LANGUAGE, *LABELLED),
    "tokenizer_path": LANGUAGE,
    "height": LABELLED,
    "width": LABELLED,
    "channels": LABELLED,
    "classes": LABELLED,
    "max_corrupt": LABELLED,
    "crop": LABELLED,
    "mixup": LABELLED,
    "noise": LABELLED,
    "flip": ("vision",),
    "time_masks": ("speech",),
    "mask_frames": ("speech",),
    "band_masks": ("speech",),
    "mask_bands": ("speech",),
    "columns": ("recommend",),
    "min_uses": ("recommend",),
    "drop_items": ("recommend",),
}
NEEDS_PATH = {
    "text_folder": "folder of text files",
    "image_folder": "folder that has a folder of images per class",
    "audio_folder": "folder that has a folder of .wav files per class",
    "interaction_table": "CSV or Parquet file of interactions",
}


def problem(data: Any, defaults: Mapping[str, Any]) -> str:
    """What is wrong with the section, or "". `defaults` has the keys of configs/base.py, dotted."""
    if data.field == "language" and data.tokenizer == "bytes" and data.vocab_size != 256:
        return f"config.data.vocab_size={data.vocab_size}: the byte tokenizer has 256"
    if data.field == "language" and data.tokenizer == "bpe" and data.vocab_size < 257:
        return f"config.data.vocab_size={data.vocab_size}: bpe needs at least 257"
    if data.name in NEEDS_PATH and not data.path:
        return f"config.data.path is empty; name the {NEEDS_PATH[data.name]}"
    for key, fields in ONLY_FOR.items():
        value = getattr(data, key)
        if data.field not in fields and value != defaults[f"data.{key}"]:
            return (
                f"config.data.{key}={value!r} is for {' and '.join(fields)}, not for "
                f"config.data.field={data.field!r}; leave it out"
            )
    for count, most, side in (
        ("time_masks", "mask_frames", "height"),
        ("band_masks", "mask_bands", "width"),
    ):
        if getattr(data, count) and not 0 < getattr(data, most) <= getattr(data, side):
            return (
                f"config.data.{most}={getattr(data, most)} should be from 1 to "
                f"config.data.{side}={getattr(data, side)} where config.data.{count} is on"
            )
    if data.field == "recommend" and data.valid_split not in ("", "users"):
        return (
            f"config.data.valid_split={data.valid_split!r}: of config.data.field='recommend' '' holds out the last "
            "item of every user, 'users' config.data.valid_fraction of the users"
        )
    if data.drop_items == 1:
        return "config.data.drop_items=1 hides every item but the last; choose below 1"
    if len(data.columns) != 3 or not all(isinstance(name, str) for name in data.columns):
        return f"config.data.columns={data.columns} should be three names: user, item, timestamp"
    return ""
