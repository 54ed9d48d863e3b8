"""Prepare data sets of tensorflow-datasets by name, and read them without TensorFlow.

TFDS needs TensorFlow to prepare sounds, and images given as arrays (MNIST, CIFAR). Data sets
prepared elsewhere as array_record are read here without it.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling.utils.errors import UserError, one_line

# TFDS knows a builder only after the import of the sub-package that registers it.
REGISTERED_IN = {
    "language": ("text",),
    "vision": ("image_classification",),
    "speech": ("audio",),
    "recommend": ("structured", "recommendation"),
}


def builder(name: str, field: str, cache_dir: Path):
    """Return the TFDS builder of that name, not prepared. Raises UserError if it is unknown."""
    import tensorflow_datasets as tfds

    for package in REGISTERED_IN[field]:
        importlib.import_module(f"tensorflow_datasets.{package}")
    if field == "speech":
        _sounds_without_tensorflow()
    tfds.disable_progress_bar()
    data_dir = cache_dir / "tfds"
    try:
        return tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"config.data.name={name!r}: TFDS knows no such data set; use `embedded`, another name "
            "beside config.data.name in configs/base.py, or a name of the TFDS catalogue"
        ) from error
    except Exception as error:  # wrong configs and versions raise many types
        raise _unprepared(name, data_dir, error) from error


def prepare(name: str, field: str, cache_dir: Path):
    """Return the builder with its records on disk. Raises UserError if they cannot be prepared."""
    prepared = builder(name, field, cache_dir)
    try:
        # TFDS prints lines about a download of unknown size, whatever it does
        with contextlib.redirect_stdout(io.StringIO()):
            prepared.download_and_prepare()
    except UserError:
        raise
    except Exception as error:  # download, disk and Beam errors have many types
        other = builder(name, field, cache_dir)
        if Path(other.data_dir).is_dir():  # another process was first
            return other
        raise _unprepared(name, cache_dir / "tfds", error) from error
    return prepared


def records(prepared, split: str, name: str) -> Sequence:
    """Return the records of a split of a prepared builder. Raises UserError if it is unknown."""
    try:
        return prepared.as_data_source(split=split)
    except Exception as error:
        reason = one_line(error, 300)
        splits = ", ".join(prepared.info.splits)
        raise UserError(
            f"config.data.name={name!r}: no split {split!r}, it has {splits} ({reason})"
        ) from error


def require(prepared, keys: Sequence[str], name: str, config_key: str) -> None:
    """Check the features of a data set. Raises UserError naming `config_key` and a missing one."""
    features = prepared.info.features
    for key in keys:
        if key not in features:
            raise UserError(f"{config_key}: {name} has {', '.join(sorted(features))}, not {key!r}")


def _unprepared(name: str, data_dir: Path, error: Exception) -> UserError:
    reason = one_line(str(error).replace("*", ""), 300)
    return UserError(
        f"config.data.name={name!r} could not be prepared in {data_dir}: {reason}; prepare it once "
        "with `tfds build --file_format=array_record` on a machine with a network and TensorFlow"
    )


def _sounds_without_tensorflow() -> None:
    """Give TFDS's Audio numpy's dtypes if TensorFlow is not installed.

    Audio uses TensorFlow's name of a dtype on creation, and nothing else to read decoded samples.
    """
    if importlib.util.find_spec("tensorflow") is None:
        from tensorflow_datasets.core.features import audio_feature

        audio_feature.tf = types.SimpleNamespace(dtypes=types.SimpleNamespace(as_dtype=np.dtype))
