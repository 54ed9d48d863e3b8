"""Read labelled uint8 images: handwritten digits, Fashion-MNIST, a folder of images, or TFDS.

`digits` is part of scikit-learn's wheel: 1,797 images of 8 x 8 (Alpaydin & Kaynak 1998, UCI; CC BY
4.0). `debian/fashion_mnist` is Debian's package dataset-fashion-mnist: 70,000 images of 28 x 28
(Xiao, Rasul & Vollgraf 2017; MIT).
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from scaling.data import idx, images, labelled
from scaling.data.labelled import Corrupt, Example, Source
from scaling.data.tfds_examples import TfdsImages
from scaling.utils.errors import UserError, one_line

DIGITS = "sklearn/datasets/data/digits.csv.gz"
DIGITS_SHA256 = "09f66e6debdee2cd"  # first digits, of the file
FASHION_FOLDER = "/usr/share/datasets/fashion-mnist"
FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def source(data, cache_dir: Path) -> Source:
    """Return the source of images that `data`, the config's section, names."""
    if data.name in ("embedded", "digits"):
        return Digits()
    if data.name == "debian/fashion_mnist":
        return FashionMnist(data.path)
    if data.name == "image_folder":
        return ImageFolder(data.path, (data.height, data.width, data.channels))
    return TfdsImages(data, cache_dir)


class Digits:
    """Handwritten digits of 8 x 8, their 17 levels spread over 0 to 255; one split."""

    classes = tuple("0123456789")
    shape, dtype = (8, 8, 1), np.dtype(np.uint8)
    splits: tuple[str, ...] = ("train",)

    def __init__(self) -> None:
        fix = "pip install 'scaling[vision]', which brings scikit-learn"
        try:
            path = Path(str(metadata.distribution("scikit-learn").locate_file(DIGITS)))
            self.raw = path.read_bytes()
        except (metadata.PackageNotFoundError, FileNotFoundError) as error:
            raise UserError(f"config.data.name='digits': {DIGITS} is missing; {fix}") from error
        digest = hashlib.sha256(self.raw).hexdigest()
        if not digest.startswith(DIGITS_SHA256):
            raise UserError(f"{path}: SHA-256 begins {digest[:16]}, not {DIGITS_SHA256}; {fix}")

    def identity(self) -> dict:
        return {"sha256": DIGITS_SHA256}

    def read(self, split: str) -> Iterator[Example]:
        rows = np.loadtxt(gzip.decompress(self.raw).decode().splitlines(), delimiter=",")
        levels_NHW = rows[:, :-1].reshape(-1, 8, 8)
        x_NHWC = np.rint(levels_NHW[..., None] * (255 / 16)).astype(np.uint8)
        yield from _examples(x_NHWC, rows[:, -1].astype(np.int64), "digits")


class FashionMnist:
    """Fashion-MNIST, from the four IDX files of Debian's package."""

    classes: tuple[str, ...] = FASHION_CLASSES
    shape, dtype = (28, 28, 1), np.dtype(np.uint8)
    splits: tuple[str, ...] = ("train", "test")
    prefix = {"train": "train", "test": "t10k"}

    def __init__(self, path: str) -> None:
        self.folder = Path(path or FASHION_FOLDER).expanduser()
        for file in self._files():
            if not file.is_file():
                raise UserError(
                    f"config.data.name='debian/fashion_mnist': {file} is missing; "
                    "`apt-get install dataset-fashion-mnist`, or set config.data.path to the "
                    "folder of its files"
                )

    def _files(self) -> list[Path]:
        return [file for split in self.splits for file in self._pair(split)]

    def _pair(self, split: str) -> tuple[Path, Path]:
        start = self.folder / self.prefix[split]
        return Path(f"{start}-images-idx3-ubyte.gz"), Path(f"{start}-labels-idx1-ubyte.gz")

    def identity(self) -> dict:
        return {"files": labelled.stats(self._files())}

    def read(self, split: str) -> Iterator[Example]:
        file, labels = self._pair(split)
        x_NHW, y_N = idx.read(file), idx.read(labels)
        if x_NHW.shape[1:] != self.shape[:2] or y_N.shape != x_NHW.shape[:1]:
            raise UserError(
                f"{file}: {x_NHW.shape} with labels of {y_N.shape}, not as many 28 x 28 images as "
                "labels"
            )
        yield from _examples(x_NHW[..., None], y_N, str(file))


class ImageFolder:
    """`<path>/<class>/<image>`: the middle part of each, resized to `shape` (bilinear)."""

    dtype = np.dtype(np.uint8)
    splits: tuple[str, ...] = ("train",)

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        images.require_size(shape, "image_folder")
        self.files = labelled.class_folders(path, SUFFIXES)
        self.classes, self.shape = tuple(self.files), shape

    def identity(self) -> dict:
        files = [file for files in self.files.values() for file in files]
        return {"files": labelled.stats(files), "shape": self.shape}

    def read(self, split: str) -> Iterator[Example | Corrupt]:
        from PIL import Image

        for label, files in enumerate(self.files.values()):
            for file in files:
                content = file.read_bytes()
                try:
                    with Image.open(file) as image:
                        x_HWC = images.fit(image, self.shape)
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                    yield Corrupt(str(file), one_line(error))
                    continue
                yield Example(x_HWC, label, content, content, str(file))


def _examples(x_NHWC: np.ndarray, y_N: np.ndarray, name: str) -> Iterator[Example]:
    """Yield images grouped by content, so that a split never separates equal ones."""
    for i, (x_HWC, label) in enumerate(zip(x_NHWC, y_N, strict=True)):
        content = x_HWC.tobytes()
        yield Example(x_HWC, int(label), content, content, f"{name}[{i}]")
