"""Test that augmented batches depend only on (seed, epoch, index), not on history or hosts."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.data import augment, pipeline
from scaling.data.augment import Augment
from scaling.data.example_batches import ExampleDispatches, held_out_examples
from scaling.utils.errors import UserError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (50, 8, 6, 1), np.uint8)
GRID = RNG.normal(size=(50, 8, 6, 1)).astype(np.float32)
Y = np.arange(50, dtype=np.int32)  # the label is the index
ALL = Augment(crop=2, flip=True, noise=0.1, mixup=0.4)
SPEECH = Augment(
    crop=1, time_masks=2, mask_frames=3, band_masks=1, mask_bands=2, noise=0.2, mixup=0.4
)


def source(x=X, **changes):
    return ExampleDispatches(x, Y, **{"batch_size": 4, "steps": 3, "seed": 5, **changes})


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_without_augmentation_an_epoch_has_every_example_once_unchanged():
    batch = source(batch_size=10, steps=5)[3]
    assert batch.keys() == {"x", "y"}
    assert batch["x"].shape == (5, 10, 8, 6, 1) and batch["y"].dtype == np.int32
    index = batch["y"].ravel()
    assert sorted(index) == list(range(50))
    np.testing.assert_array_equal(batch["x"].reshape(50, 8, 6, 1), X[index])


@pytest.mark.parametrize(("x", "how"), [(X, ALL), (GRID, SPEECH)], ids=["images", "grids"])
def test_random_access_equals_reading_and_hosts_and_steps_do_not_matter(x, how):
    s = source(x, augment=how)
    through = pipeline.iterate(s, 0, prefetch=2)
    read = [next(through) for _ in range(6)]  # crosses the end of the first epoch
    assert_same(next(pipeline.iterate(s, 5, prefetch=0)), read[5])
    parts = [source(x, augment=how, host=h, hosts=2)[4] for h in range(2)]
    assert_same({k: np.concatenate([p[k] for p in parts], axis=1) for k in parts[0]}, read[4])
    longer = source(x, augment=how, steps=6)[2]
    assert_same(longer, {k: np.concatenate([read[4][k], read[5][k]]) for k in longer})
    assert longer["x"].dtype == x.dtype


def test_each_epoch_and_seed_has_its_own_augmentation():
    def of(seed, epoch):
        batch = source(augment=ALL, batch_size=50, steps=1, seed=seed)[epoch]
        return batch["x"][0, np.argsort(batch["y"][0])]

    np.testing.assert_array_equal(of(1, 0), of(1, 0))
    for other in (of(1, 1), of(2, 0)):
        changed = (of(1, 0) != other).any(axis=(1, 2, 3))
        assert changed.mean() > 0.9


def test_mixup_mixes_augmented_images_and_gives_both_labels_and_the_weight():
    how = Augment(flip=True, mixup=0.4)
    batch = source(augment=how)[0]
    x = batch["x"].reshape(-1, 8, 6, 1)
    y, y2, w = (batch[k].ravel() for k in ("y", "y2", "mix"))
    plain = Augment(flip=True)
    ours, theirs = plain(X[y], y, (5, 0)), plain(X[y2], y2, (5, 0))
    w4 = w[:, None, None, None]
    np.testing.assert_array_equal(x, np.rint(w4 * ours + (1 - w4) * theirs))
    assert w.dtype == np.float32 and ((w >= 0) & (w <= 1)).all() and (y != y2).any()


def test_draws_have_the_distributions_they_claim():
    index = np.arange(20_000)
    u = augment.uniform((3, 1), index, "crop", 2)
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.002 and u.max() < 1
    assert abs(np.corrcoef(u.T)[0, 1]) < 0.02
    z = augment.normal((3, 1), index, "noise", 3)
    assert z.shape == (20_000, 3) and abs(z.mean()) < 0.02 and abs(z.std() - 1) < 0.02
    assert (np.abs(np.corrcoef(z.T) - np.eye(3)) < 0.03).all()
    _, partner, weight = Augment(mixup=0.4).mix(
        np.zeros((20_000, 1, 1, 1), np.float32),
        index,
        (3, 1),
        50,
        lambda i: np.zeros((len(i), 1, 1, 1)),
    )
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2a + 1))
    assert abs(weight.mean() - 0.5) < 0.01 and abs(weight.var() - 1 / 7.2) < 0.005
    assert np.bincount(partner, minlength=50).min() > 300


def test_crop_moves_by_whole_pixels_and_fills():
    moved = augment.crop(X[:2], np.array([[0.0, 0.999], [0.5, 0.5]]), 1, 7)
    expected = np.full((8, 6, 1), 7, np.uint8)
    expected[1:, :-1] = X[0, :-1, 1:]  # one row down, one column to the left
    np.testing.assert_array_equal(moved[0], expected)
    np.testing.assert_array_equal(moved[1], X[1])


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    index = np.arange(50)
    out = Augment(flip=True)(X, index, (0, 0))
    flipped = (out == X[:, :, ::-1]).all(axis=(1, 2, 3))
    assert 10 < flipped.sum() < 40
    np.testing.assert_array_equal(out[~flipped], X[~flipped])


@pytest.mark.parametrize("axis", [1, 2])
def test_masks_hide_one_range_of_limited_length(axis):
    out = augment.mask(GRID, augment.uniform((0, 0), Y, "time", 2), 3, axis)
    widths = set()
    for before, after in zip(GRID, out, strict=True):
        hidden = (before != after).all(axis=tuple(a for a in (0, 1, 2) if a != axis - 1))
        assert (before != after).sum() == hidden.sum() * before.size // before.shape[axis - 1]
        places = np.flatnonzero(hidden)
        assert len(places) <= 3 and (np.diff(places) == 1).all()
        widths.add(len(places))
        np.testing.assert_allclose(after[before != after], before.mean(), rtol=1e-5, atol=1e-6)
    assert widths == {0, 1, 2, 3}


def test_drop_hides_items_but_never_the_last():
    tokens = np.arange(1, 4001).reshape(200, 20)
    out = augment.drop(tokens, augment.uniform((0, 0), np.arange(200), "drop", 20), 0.25)
    assert (out[:, -1] == tokens[:, -1]).all()
    assert abs((out[:, :-1] == 0).mean() - 0.25) < 0.03
    assert (out[out != 0] == tokens[out != 0]).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"field": "speech", "flip": True}, "config.data.flip=True is for vision, not"),
        ({"field": "vision", "dedupe": "near"}, "config.data.dedupe='near' is for language"),
        ({"field": "vision", "time_masks": 1}, "config.data.time_masks=1 is for speech"),
        ({"field": "language", "mixup": 0.2}, "for vision and speech, not"),
        ({"field": "speech", "height": 8, "time_masks": 1, "mask_frames": 9}, "from 1 to"),
    ],
)
def test_keys_of_another_field_are_refused(values, message):
    flat = {f"data.{k}": v for k, v in values.items()}
    with pytest.raises(UserError, match=message):
        config_lib.with_values(config_lib.base_config(), flat)


def test_augmentation_is_that_of_the_config():
    values = {"data.field": "vision", "data.crop": 4, "data.flip": True, "data.mixup": 0.2}
    data = config_lib.with_values(config_lib.base_config(), values).data
    assert augment.from_config(data, 0.0) == Augment(crop=4, flip=True, mixup=0.2)
    assert augment.from_config(config_lib.base_config().data, 0.0) == Augment()


def test_held_out_examples_are_spread_evenly():
    assert held_out_examples(1000, 10).tolist() == list(range(0, 1000, 100))
    assert held_out_examples(3, 10).tolist() == [0, 1, 2]
