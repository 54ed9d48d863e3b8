"""Read labelled images and sounds of TFDS: the features `image` or `audio`, and `label`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scaling.data import images, mel, tfds_names
from scaling.data.labelled import Corrupt, Example
from scaling.utils.errors import UserError, one_line

UNREADABLE = (OSError, ValueError, SyntaxError)  # Pillow's errors for a damaged image


class Splits(tuple):
    """The names of a data set's splits; it also contains slices of them, such as train[:10%]."""

    def __contains__(self, split) -> bool:
        return super().__contains__(str(split).partition("[")[0])


class TfdsExamples(ABC):
    """The common part of images and sounds, with the splits of TFDS."""

    feature = ""

    def __init__(self, data, cache_dir: Path) -> None:
        self.name = data.name
        self.builder = tfds_names.prepare(data.name, data.field, cache_dir)
        key = f"config.data.name={data.name!r}"
        tfds_names.require(self.builder, (self.feature, "label"), data.name, key)
        features = self.builder.info.features
        if not hasattr(features["label"], "names"):
            raise UserError(f"{key}: its feature `label` is not a class but {features['label']}")
        self.classes: tuple[str, ...] = tuple(features["label"].names)
        self.splits: tuple[str, ...] = Splits(self.builder.info.splits)

    def identity(self) -> dict:
        return {"tfds": self.builder.info.full_name}

    def read(self, split: str) -> Iterator[Example | Corrupt]:
        source = tfds_names.records(self.builder, split, self.name)
        for i in range(len(source)):
            name = f"{self.name} {split}[{i}]"
            try:
                record = source[i]
                x_HWC = self.example(record[self.feature])
            except UNREADABLE as error:
                yield Corrupt(name, one_line(error))
                continue
            content = np.asarray(record[self.feature]).tobytes()
            group = self.group(record) or content
            yield Example(x_HWC, int(record["label"]), group, content, name)

    def group(self, record) -> bytes:
        """Return the group of an example; "" makes it a group of its own."""
        return b""

    @abstractmethod
    def example(self, raw: np.ndarray) -> np.ndarray:
        """Return the `x_HWC` of a record's feature."""


class TfdsImages(TfdsExamples):
    """Images, unchanged if of one size, else cut and resized to the config's size (vision.py)."""

    feature, dtype = "image", np.dtype(np.uint8)

    def __init__(self, data, cache_dir: Path) -> None:
        super().__init__(data, cache_dir)
        self.shape = tuple(self.builder.info.features["image"].shape)
        if None in self.shape:
            self.shape = (data.height, data.width, data.channels)
            images.require_size(self.shape, data.name)

    def identity(self) -> dict:
        return {**super().identity(), "shape": self.shape}

    def example(self, raw: np.ndarray) -> np.ndarray:
        from PIL import Image

        if raw.shape == self.shape:
            return raw
        return images.fit(
            Image.fromarray(raw.squeeze(-1) if raw.shape[-1] == 1 else raw), self.shape
        )


class TfdsSounds(TfdsExamples):
    """The middle of each sound of 16-bit samples."""

    feature, dtype = "audio", np.dtype(np.float32)

    def __init__(self, data, cache_dir: Path) -> None:
        super().__init__(data, cache_dir)
        self.shape = (data.height, data.width, data.channels)
        self.rate = self.builder.info.features["audio"].sample_rate
        if not self.rate:
            raise UserError(f"config.data.name={data.name!r}: TFDS has no sampling rate for it")

    def identity(self) -> dict:
        return {**super().identity(), "groups": "speakers"}

    def group(self, record) -> bytes:
        """Return the speaker of `spoken_digit`, with files <digit>_<speaker>_<number>.wav."""
        file = record.get("audio/filename", b"")
        parts = (file if isinstance(file, bytes) else str(file).encode()).split(b"_")
        return parts[1] if len(parts) == 3 else b""

    def example(self, raw: np.ndarray) -> np.ndarray:
        if raw.ndim != 1 or not len(raw):
            raise ValueError(f"samples of shape {raw.shape}, not of one channel")
        x_TM = mel.log_mel(raw.astype(np.float32) / 32768, self.rate, self.shape[1])
        return mel.middle(x_TM, self.shape[0])[..., None]
