"""Test TFDS data sets by name without TensorFlow: known ones, and small ones written and read."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.proto import feature_pb2

from scaling.config import load as config_lib
from scaling.data import examples, interactions, tfds_names
from scaling.utils.errors import UserError

RATE = 8000


def section(**values):
    flat = {f"data.{k}": v for k, v in values.items()}
    flat |= {"model.patch_height": 1, "model.patch_width": 1}  # divisors of all sizes
    return config_lib.with_values(config_lib.base_config(), flat).data


class Samples(tfds.features.Audio):
    """Audio without the file of its features, which TFDS writes with TensorFlow."""

    def to_json_content(self):
        return feature_pb2.JsonFeature(json=json.dumps({}))


class Tiny(tfds.core.GeneratorBasedBuilder):
    """The common part of the data sets of this file."""

    VERSION = tfds.core.Version("1.0.0")
    splits: dict = {"train": 20, "test": 4}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self.make_features()),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        begins = {"train": 0, "test": 100}
        return {s: self._generate_examples(begins[s], n) for s, n in self.splits.items()}

    def _generate_examples(self, begin, count):
        for i in range(begin, begin + count):
            yield i, self.record(i)


def png(pixels) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    file.seek(0)
    return file


class TinyPictures(Tiny):
    def make_features(self):
        image = tfds.features.Image(shape=(None, None, 3))
        return {"image": image, "label": tfds.features.ClassLabel(names=["dark", "light"])}

    def record(self, i):
        pixels = np.full((6, 9 + i % 3, 3), 1 + i if i % 2 == 0 else 255 - i, np.uint8)
        file = png(pixels)
        return {"image": io.BytesIO(b"cut short") if i == 7 else file, "label": i % 2}


class TinyTones(Tiny):
    def make_features(self):
        tfds_names._sounds_without_tensorflow()
        label = tfds.features.ClassLabel(names=["low", "high"])
        return {"audio": Samples(sample_rate=RATE), "label": label}

    def record(self, i):
        hertz = (300 if i % 2 == 0 else 2000) + i
        tone = 16_000 * np.sin(2 * np.pi * hertz * np.arange(RATE // 5) / RATE)
        return {"audio": np.rint(tone).astype(np.int64), "label": i % 2}


class TinyDigits(TinyTones):
    """Four speakers, by the names of the files."""

    splits = {"train": 40}

    def make_features(self):
        return {**super().make_features(), "audio/filename": tfds.features.Text()}

    def record(self, i):
        return {**super().record(i), "audio/filename": f"{i % 2}_speaker{i % 4}_{i}.wav"}


class TinyRatings(Tiny):
    splits = {"train": 12}

    def make_features(self):
        return {"user_id": np.str_, "movie_id": np.str_, "timestamp": np.int64}

    def record(self, i):
        return {"user_id": f"u{i % 3}", "movie_id": f"m{i // 3 % 3}", "timestamp": 100 - i}


@pytest.mark.parametrize(
    ("field", "name", "keys"),
    [
        ("vision", "mnist", ("image", "label")),
        ("vision", "fashion_mnist", ("image", "label")),
        ("vision", "cifar10", ("image", "label")),
        ("vision", "cifar100", ("image", "label")),
        ("vision", "imagenet2012", ("image", "label")),
        ("speech", "speech_commands", ("audio", "label")),
        ("speech", "spoken_digit", ("audio", "label")),
        ("recommend", "movielens/100k-ratings", ("user_id", "movie_id", "timestamp")),
        ("recommend", "movielens/25m-ratings", ("user_id", "movie_id", "timestamp")),
        ("language", "c4/en", ("text",)),
        ("language", "wiki40b/en", ("text",)),
        ("language", "lm1b", ("text",)),
    ],
)
def test_standard_data_sets_are_known_with_their_features(field, name, keys, tmp_path):
    builder = tfds_names.builder(name, field, tmp_path)
    tfds_names.require(builder, keys, name, "config.data")
    if "label" in keys:
        assert builder.info.features["label"].num_classes >= 10
    if "audio" in keys:
        assert builder.info.features["audio"].sample_rate in (8000, 16_000)
    with pytest.raises(UserError, match=f"config.data: {name} has "):
        tfds_names.require(builder, ("no_such_key",), name, "config.data")


def test_images_of_many_sizes_are_resized_and_splits_are_kept(tmp_path):
    data = section(
        field="vision", name="tiny_pictures", valid_split="test", height=4, width=4, channels=1,
        classes=2, max_corrupt=0.1, cache_dir=str(tmp_path),
    )  # fmt: skip
    read = examples.prepare(data)
    assert read.train_x_NHWC.shape == (19, 4, 4, 1) and read.valid_x_NHWC.shape == (4, 4, 4, 1)
    assert read.skipped == ("tiny_pictures train[7]",) and read.classes == ("dark", "light")
    light = read.train_x_NHWC.mean(axis=(1, 2, 3)) > 128
    np.testing.assert_array_equal(light, read.train_y_N == 1)
    assert "tensorflow" not in sys.modules
    first = examples.prepare(section(**{**data.to_dict(), "train_split": "train[:50%]"}))
    np.testing.assert_array_equal(first.train_x_NHWC, read.train_x_NHWC[:9])  # one is skipped
    for values, message in (
        ({"valid_split": "nope"}, "tiny_pictures has train, test"),
        ({"train_split": "train[:1%"}, "no split 'train[:1%'"),
        ({"height": 0}, "should be positive"),
        ({"classes": 3}, "config.data.classes=2"),
        ({"name": "tiny_ratings"}, "tiny_ratings has movie_id, timestamp, user_id, not 'image'"),
        ({"name": "no_such"}, "TFDS knows no such data set"),
    ):
        with pytest.raises(UserError) as caught:
            examples.prepare(section(**{**data.to_dict(), **values}))
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_sounds_become_log_mel_grids_without_tensorflow(tmp_path):
    data = section(
        field="speech", name="tiny_tones", valid_split="test", height=10, width=16, channels=1,
        classes=2, cache_dir=str(tmp_path),
    )  # fmt: skip
    read = examples.prepare(data)
    assert read.train_x_NHWC.shape == (20, 10, 16, 1) and read.train_x_NHWC.dtype == np.float32
    band = read.train_x_NHWC.mean(axis=(1, 3)).argmax(axis=1)
    np.testing.assert_array_equal(band > 6, read.train_y_N == 1)
    assert "tensorflow" not in sys.modules


def test_a_speaker_is_on_one_side(tmp_path):
    data = section(
        field="speech", name="tiny_digits", height=10, width=16, channels=1, classes=2,
        valid_fraction=0.5, cache_dir=str(tmp_path),
    )  # fmt: skip
    read = examples.prepare(data)
    train, valid = ({*groups.tolist()} for groups in read.groups)
    assert len(train) + len(valid) == 4 and not train & valid
    assert len(read.train_y_N) + len(read.valid_y_N) == 40


def test_ratings_become_sequences(tmp_path):
    data = section(
        field="recommend", name="tiny_ratings", vocab_size=4, min_uses=1, cache_dir=str(tmp_path),
        columns=("user_id", "movie_id", "timestamp"),
    )  # fmt: skip
    read = interactions.prepare(data)
    # record i is of user i % 3; time runs against i, so user 0 saw m0 (i = 9), m2, m1, m0
    first = [read.names[i - 1] for i in read.items_I[: read.begins_U1[1]]]
    assert first == ["m0", "m2", "m1", "m0"]
    with pytest.raises(
        UserError, match=r"config\.data\.columns=.*has movie_id, timestamp, user_id"
    ):
        interactions.prepare(
            section(**{**data.to_dict(), "columns": ("user", "item", "timestamp"), "min_uses": 2})
        )
