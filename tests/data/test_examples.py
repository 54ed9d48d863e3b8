"""Test labelled examples: reading, checks, splits by group, the cache, and errors."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest
from PIL import Image

from scaling.config import load as config_lib
from scaling.data import examples, images, vision
from scaling.utils.errors import UserError

SIZES = {"height": 28, "width": 28, "channels": 1, "classes": 10}


def section(**values):
    flat = {f"data.{k}": v for k, v in values.items()}
    flat |= {"model.patch_height": 1, "model.patch_width": 1}  # divisors of all sizes
    return config_lib.with_values(config_lib.load("configs/base.py"), flat).data


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def fashion(tmp_path):
    """Return (folder of four files, config section that reads them, images and labels by split)."""
    folder = tmp_path / "fashion"
    folder.mkdir()
    rng, made = np.random.default_rng(0), {}
    for prefix, count in (("train", 200), ("t10k", 40)):
        x, y = (
            rng.integers(0, 256, (count, 28, 28), np.uint8),
            np.arange(count, dtype=np.uint8) % 10,
        )
        made[prefix] = x, y
    made["t10k"][0][0] = made["train"][0][7]  # in both splits
    for prefix, (x, y) in made.items():
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", x)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", y)
    data = section(
        field="vision", name="debian/fashion_mnist", path=str(folder),
        cache_dir=str(tmp_path / "c"),
        valid_split="test", **SIZES,
    )  # fmt: skip
    return folder, data, made


def test_idx_files_are_read_and_a_test_image_is_not_trained_on(fashion, monkeypatch):
    _, data, made = fashion
    read = examples.prepare(data)
    np.testing.assert_array_equal(read.valid_x_NHWC[..., 0], made["t10k"][0])
    np.testing.assert_array_equal(read.valid_y_N, made["t10k"][1])
    np.testing.assert_array_equal(read.train_x_NHWC[..., 0], np.delete(made["train"][0], 7, axis=0))
    np.testing.assert_array_equal(read.train_y_N, np.delete(made["train"][1], 7))
    assert read.classes[9] == "Ankle boot" and read.train_x_NHWC.dtype == np.uint8
    assert json.loads((read.folder / "meta.json").read_text())["in_both_splits"] == 1
    monkeypatch.setattr(examples, "_build", None)
    assert examples.prepare(data).fingerprint == read.fingerprint


def test_held_out_examples_are_drawn_by_their_own_content(fashion, tmp_path):
    _, data, made = fashion
    by_hash = {"path": data.path, "cache_dir": data.cache_dir, "field": "vision", "name": data.name}
    read = examples.prepare(section(**by_hash, **SIZES, valid_fraction=0.3))
    assert 30 < len(read.valid_y_N) < 90 and len(read.train_y_N) + len(read.valid_y_N) == 200
    assert not {*read.groups[0].tolist()} & {*read.groups[1].tolist()}
    turned = tmp_path / "turned"
    turned.mkdir()
    x, y = made["train"]
    write_idx(turned / "train-images-idx3-ubyte.gz", x[::-1])
    write_idx(turned / "train-labels-idx1-ubyte.gz", y[::-1])
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (turned / name).write_bytes((fashion[0] / name).read_bytes())
    again = examples.prepare(
        section(**{**by_hash, "path": str(turned)}, **SIZES, valid_fraction=0.3)
    )
    np.testing.assert_array_equal(again.valid_x_NHWC[::-1], read.valid_x_NHWC)
    assert again.fingerprint != read.fingerprint


def test_digits_are_those_of_scikit_learn():
    data = section(field="vision", height=8, width=8, channels=1, classes=10)
    read = examples.prepare(data)
    assert len(read.train_y_N) + len(read.valid_y_N) == 1797
    first = next(vision.Digits().read("train"))
    assert first.label == 0  # the first row of the data set's own CSV: 0, 0, 5, 13, 9, 1, 0, 0
    assert first.x_HWC[0, :, 0].tolist() == [round(v * 255 / 16) for v in (0, 0, 5, 13, 9, 1, 0, 0)]
    assert read.train_x_NHWC.max() == 255


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"height": 32}, "set config.data.height=28, config.data.width=28, config.data.channels=1"),
        ({"classes": 0}, "config.data.classes=10"),
        ({"valid_split": "validation"}, "config.data.valid_split='validation'"),
        ({"train_split": "test"}, "is config.data.train_split, too"),
        ({"hash": "beef"}, "config.data.hash=beef"),
        ({"path": "/nonexistent"}, "apt-get install dataset-fashion-mnist"),
        ({"name": "no_such_images"}, "config.data.name='no_such_images'"),
    ],
)
def test_other_data_than_configured_are_refused_in_one_line(fashion, values, message):
    _, data, _ = fashion
    with pytest.raises(UserError) as caught:
        examples.prepare(section(**{**data.to_dict(), **values}))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def damage_gzip(folder, made):
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-5000])


def cut_image(folder, made):
    write_idx(folder / "train-images-idx3-ubyte.gz", made["train"][0][:-1])


def wrong_label(folder, made):
    y = made["train"][1].copy()
    y[3] = 10
    write_idx(folder / "train-labels-idx1-ubyte.gz", y)


def no_bags(folder, made):
    y = made["train"][1].copy()
    y[y == 8] = 7
    write_idx(folder / "train-labels-idx1-ubyte.gz", y)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_gzip, "not a whole gzip file"),
        (cut_image, "not as many 28 x 28 images as labels"),
        (wrong_label, "images-idx3-ubyte.gz[3]: label 10 is out of range"),
        (no_bags, "class 'Bag' has no training example"),
    ],
)
def test_damaged_files_are_named(fashion, damage, message):
    folder, data, made = fashion
    damage(folder, made)
    with pytest.raises(UserError) as caught:
        examples.prepare(data)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not list((folder.parent / "c" / "examples").iterdir())


def test_damaged_cache_is_named(fashion):
    _, data, _ = fashion
    path = examples.prepare(data).folder / "train_y.bin"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train_y\.bin: damaged"):
        examples.prepare(data)


@pytest.fixture
def pictures(tmp_path):
    """Return a folder of 2 classes of 30 PNGs of 12 x 20, one truncated and one not an image."""
    rng = np.random.default_rng(1)
    for label, name in enumerate(("cat", "dog")):
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 100, (12, 20, 3), np.uint8) + np.uint8(150 * label)
            Image.fromarray(pixels).save(folder / f"{i:02}.png")
    cut = tmp_path / "pictures" / "cat" / "03.png"
    cut.write_bytes(cut.read_bytes()[:300])
    (tmp_path / "pictures" / "dog" / "05.png").write_bytes(b"no image")
    return section(
        field="vision", name="image_folder", path=str(tmp_path / "pictures"), max_corrupt=0.05,
        cache_dir=str(tmp_path / "c"), height=6, width=6, channels=3, classes=2, valid_fraction=0.2,
    )  # fmt: skip


def test_unreadable_images_are_skipped_by_name_and_too_many_refused(pictures, capsys):
    read = examples.prepare(pictures)
    assert [name[-10:] for name in read.skipped] == ["cat/03.png", "dog/05.png"]
    err = capsys.readouterr().err
    assert "warning: 2 unreadable examples skipped: " in err and "cat/03.png" in err
    assert len(read.train_y_N) + len(read.valid_y_N) == 58
    assert read.train_x_NHWC.shape[1:] == (6, 6, 3) and read.classes == ("cat", "dog")
    bright = read.train_x_NHWC.mean(axis=(1, 2, 3)) > 150
    np.testing.assert_array_equal(bright, read.train_y_N == 1)
    strict = section(
        **{**pictures.to_dict(), "max_corrupt": 0.02, "cache_dir": pictures.path + "/../d"}
    )
    with pytest.raises(UserError, match=r"2 of 60 examples cannot be read \(.*03\.png: "):
        examples.prepare(strict)


def test_images_are_cut_in_the_middle_before_they_are_resized():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    small = images.fit(Image.fromarray(wide), (5, 5, 1))[..., 0]
    assert (small[:, 1:-1] == 200).all() and small.min() > 150


def test_empty_classes_and_missing_sizes_of_folders_are_named(pictures, tmp_path):
    with pytest.raises(
        UserError, match=r"config\.data\.height and width, which should be positive"
    ):
        examples.prepare(section(**{**pictures.to_dict(), "height": 0}))
    (tmp_path / "pictures" / "bird").mkdir()
    with pytest.raises(UserError, match="class 'bird' is empty"):
        examples.prepare(pictures)
