"""Data sets of tensorflow-datasets by name, prepared as array_record and read without TensorFlow.

TFDS itself needs TensorFlow to prepare images that it is given as arrays (MNIST, CIFAR) and sounds; what it
has prepared elsewhere is read here without.
"""

from __future__ import annotations

import importlib
import importlib.util
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scaling.utils.errors import UserError, one_line

# Builders are known only once the sub-package that registers them was imported.
REGISTERED_IN = {
    "language": ("text",),
    "vision": ("image_classification",),
    "speech": ("audio",),
    "recommend": ("structured", "recommendation"),
}


def builder(name: str, field: str, cache_dir: Path):
    """The TFDS builder of that name, not yet prepared. Raises UserError where there is none."""
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
            f"config.data.name={name!r}: TFDS knows no such data set; see `embedded`, the other names "
            "beside config.data.name in configs/base.py, or a name of the TFDS catalogue"
        ) from error
    except Exception as error:  # wrong configs and versions come in many types
        raise _unprepared(name, data_dir, error) from error


def prepare(name: str, field: str, cache_dir: Path):
    """The same, with its records on disk. Raises UserError where they cannot be made."""
    found = builder(name, field, cache_dir)
    try:
        found.download_and_prepare()
    except UserError:
        raise
    except Exception as error:  # download, disk and Beam errors come in many types
        again = builder(name, field, cache_dir)
        if Path(again.data_dir).is_dir():  # another process was first, and renamed its own
            return again
        raise _unprepared(name, cache_dir / "tfds", error) from error
    return found


def records(found, split: str, name: str) -> Sequence:
    """The records of a split of a prepared builder, by number. Raises UserError where it has none such."""
    try:
        return found.as_data_source(split=split)
    except Exception as error:
        reason = one_line(error, 300)
        raise UserError(
            f"config.data.name={name!r}: no split {split!r}, it has {', '.join(found.info.splits)} "
            f"({reason})"
        ) from error


def require(found, keys: Sequence[str], name: str, said: str) -> None:
    """Raises UserError where a data set lacks one of these features; `said` is the config's key."""
    features = found.info.features
    for key in keys:
        if key not in features:
            raise UserError(f"{said}: {name} has {', '.join(sorted(features))}, not {key!r}")


def _unprepared(name: str, data_dir: Path, error: Exception) -> UserError:
    reason = one_line(str(error).replace("*", ""), 300)
    return UserError(
        f"config.data.name={name!r} could not be prepared in {data_dir}: {reason}; prepare it once with "
        "`tfds build --file_format=array_record` where there are a network and TensorFlow"
    )


def _sounds_without_tensorflow() -> None:
    """TFDS's Audio asks TensorFlow for the name of a dtype as soon as it is made, and for nothing else
    when decoded samples are read: give it numpy's where TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        from tensorflow_datasets.core.features import audio_feature

        audio_feature.tf = types.SimpleNamespace(dtypes=types.SimpleNamespace(as_dtype=np.dtype))
