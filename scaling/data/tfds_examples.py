"""Labelled images and sounds of tensorflow-datasets: the features `image` or `audio`, and `label`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scaling.data import images, mel, tfds_names
from scaling.data.labelled import Corrupt, Example
from scaling.utils.errors import UserError, one_line

UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow raises for a damaged image


class Splits(tuple):
    """The names of a data set's splits. Parts of them, such as train[:10%], are in it, too."""

    def __contains__(self, split) -> bool:
        return super().__contains__(str(split).partition("[")[0])


class TfdsExamples(ABC):
    """What images and sounds share; TFDS's splits are taken as they are."""

    feature = ""

    def __init__(self, data, cache_dir: Path) -> None:
        self.name = data.name
        self.builder = tfds_names.prepare(data.name, data.field, cache_dir)
        said = f"config.data.name={data.name!r}"
        tfds_names.require(self.builder, (self.feature, "label"), data.name, said)
        features = self.builder.info.features
        if not hasattr(features["label"], "names"):
            raise UserError(f"{said}: its feature `label` is no class but {features['label']}")
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
        """Whose the example is, where the data set says so; each is its own group where it is empty."""
        return b""

    @abstractmethod
    def example(self, raw: np.ndarray) -> np.ndarray:
        """`x_HWC` of what the data set holds."""


class TfdsImages(TfdsExamples):
    """Images of one size as they are; of many sizes cut and resized to the config's, as in vision.py."""

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
    """The middle of each sound, whose samples are those of 16 bits."""

    feature, dtype = "audio", np.dtype(np.float32)

    def __init__(self, data, cache_dir: Path) -> None:
        super().__init__(data, cache_dir)
        self.shape = (data.height, data.width, data.channels)
        self.rate = self.builder.info.features["audio"].sample_rate
        if not self.rate:
            raise UserError(f"config.data.name={data.name!r}: TFDS does not say its sampling rate")

    def identity(self) -> dict:
        return {**super().identity(), "groups": "speakers"}

    def group(self, record) -> bytes:
        """The speaker of `spoken_digit`, whose files are named <digit>_<speaker>_<number>.wav."""
        file = record.get("audio/filename", b"")
        parts = (file if isinstance(file, bytes) else str(file).encode()).split(b"_")
        return parts[1] if len(parts) == 3 else b""

    def example(self, raw: np.ndarray) -> np.ndarray:
        if raw.ndim != 1 or not len(raw):
            raise ValueError(f"samples of shape {raw.shape}, not of one channel")
        x_TM = mel.log_mel(raw.astype(np.float32) / 32768, self.rate, self.shape[1])
        return mel.middle(x_TM, self.shape[0])[..., None]
