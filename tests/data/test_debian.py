"""The data sets that Debian packages, where they are installed: CI installs them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from scaling import config as config_lib
from scaling.data import examples, speech, vision


def prepared(needed: str, **values):
    """The examples, or a skipped test without the package's folder; in CI that is a failure."""
    required = os.environ.get("SCALING_REQUIRE_DEBIAN_DATA") == "1"
    if not Path(needed).is_dir() and not required:
        pytest.skip(f"{needed} is not installed")
    flat = {f"data.{k}": v for k, v in values.items()}
    return examples.prepare(config_lib.with_values(config_lib.base_config(), flat).data)


def test_fashion_mnist_is_whole_and_its_halves_share_no_image():
    read = prepared(
        vision.FASHION_FOLDER, field="vision", name="debian/fashion_mnist", valid_split="test",
        height=28, width=28, channels=1, classes=10,
    )  # fmt: skip
    assert (len(read.train_y_N), len(read.valid_y_N)) == (60_000, 10_000)
    assert np.bincount(read.train_y_N).tolist() == [6000] * 10
    assert np.bincount(read.valid_y_N).tolist() == [1000] * 10
    assert read.fingerprint == "3e9813ac87ddd65a"
    assert read.train_x_NHWC.mean() / 255 == pytest.approx(0.2860, abs=5e-5)  # as is often quoted


def test_festvox_ru_has_all_of_its_segments_and_utterances():
    read = prepared(
        speech.FESTVOX_FOLDER, field="speech", name="debian/festvox_ru", height=16, width=40,
        channels=1, classes=51,
    )  # fmt: skip
    assert len(read.train_y_N) + len(read.valid_y_N) == 54_372 and not read.skipped
    train, valid = ({*groups.tolist()} for groups in read.groups)
    assert len(train) + len(valid) == 620 and not train & valid
    assert read.fingerprint == "19d4c411f3ad528c"
    per_class = json.loads((read.folder / "meta.json").read_text())["per_class"]
    assert sum(per_class["train"]) == len(read.train_y_N) and min(per_class["train"]) >= 40
    # means of the classes tell some phones apart: far better than the most frequent one's 7 %
    x, y = np.asarray(read.train_x_NHWC), np.asarray(read.train_y_N)
    means = np.stack([x[y == k].mean(axis=0).ravel() for k in range(51)])
    valid_x = np.asarray(read.valid_x_NHWC).reshape(len(read.valid_y_N), -1)
    near = (means**2).sum(1) - 2 * valid_x @ means.T
    assert (near.argmin(axis=1) == read.valid_y_N).mean() > 0.2
