"""Augment examples on the host, a pure function of (seed, epoch, index of the example).

It does not depend on batches or hosts. Shapes: N examples, H rows (pixels or frames), W columns
(pixels or mel bands), C channels, S draws. Key is (seed, epoch). The dtype stays, so that fractions
of image levels are rounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.data import pipeline

Key = tuple[int, int]


@dataclass(frozen=True)
class Augment:
    """Augmentations of a training example by the names of their config keys, off by default.

    `__call__` applies all but mixup in a fixed order, `mix` mixes two of its results.
    """

    crop: int = 0  # pixels or frames that are padded on each side before a cut of the old size
    flip: bool = False  # mirror half of the images
    mixup: float = 0.0  # alpha of Beta(alpha, alpha)
    noise: float = 0.0  # standard deviation of Gaussian noise, as a fraction of 255 for images
    time_masks: int = 0  # masks over frames ...
    mask_frames: int = 0  # ... each of 0 to this many
    band_masks: int = 0  # masks over mel bands ...
    mask_bands: int = 0  # ... each of 0 to this many
    fill: float = 0.0  # the value beyond the borders

    def __call__(self, x_NHWC: np.ndarray, index_N: np.ndarray, key: Key) -> np.ndarray:
        """Return the augmented examples, without mixup; `index_N` are their indices in the data."""
        levels = 255.0 if x_NHWC.dtype == np.uint8 else 1.0
        out = x_NHWC
        if self.crop:
            out = crop(out, uniform(key, index_N, "crop", 2), self.crop, self.fill)
        if self.flip:
            out = np.where(
                uniform(key, index_N, "flip", 1)[:, :, None, None] < 0.5, out[:, :, ::-1], out
            )
        if self.time_masks:
            draws = uniform(key, index_N, "time", 2 * self.time_masks)
            out = mask(out, draws, self.mask_frames, axis=1)
        if self.band_masks:
            draws = uniform(key, index_N, "band", 2 * self.band_masks)
            out = mask(out, draws, self.mask_bands, axis=2)
        if self.noise:
            draws = normal(key, index_N, "noise", int(np.prod(out.shape[1:])))
            out = cast(out + self.noise * levels * draws.reshape(out.shape), out.dtype)
        return out

    def mix(
        self, x_NHWC: np.ndarray, index_N: np.ndarray, key: Key, size: int, read: Callable
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (x_NHWC, partner_N, weight_N float32): examples mixed with augmented partners.

        x = weight x_i + (1 - weight) x_j, weight ~ Beta(alpha, alpha), the same for the labels
        (Zhang et al. 2018, eq. 1). Partners are drawn from all `size` examples. `read(index_N)`
        returns them before augmentation.
        """
        from scipy import special

        draws_NS = uniform(key, index_N, "mixup", 2)
        partner_N = np.minimum((draws_NS[:, 0] * size).astype(np.int64), size - 1)
        weight_N = special.betaincinv(self.mixup, self.mixup, draws_NS[:, 1]).astype(np.float32)
        other_NHWC = self(read(partner_N), partner_N, key)
        w = weight_N[:, None, None, None]
        return cast(w * x_NHWC + (1 - w) * other_NHWC, x_NHWC.dtype), partner_N, weight_N


# Keys of the config's `data` section, in the order of the fingerprint.
SWITCHES = (*(name for name in Augment.__dataclass_fields__ if name != "fill"), "drop_items")


def fingerprint(prepared: str, data) -> str:
    """Return the fingerprint of prepared data with the augmentations that are on, if any is."""
    switched_on = [f"{key}={getattr(data, key)!r}" for key in SWITCHES if getattr(data, key)]
    if not switched_on:
        return prepared
    return hashlib.sha256(" ".join([prepared, *switched_on]).encode()).hexdigest()[:16]


def from_config(data, fill: float) -> Augment:
    """Return the augmentation of the config's `data` section. `fill`: black, or mel's silence."""
    names = [name for name in Augment.__dataclass_fields__ if name != "fill"]
    return Augment(**{name: getattr(data, name) for name in names}, fill=fill)


def uniform(key: Key, index_N: np.ndarray, what: str, count: int) -> np.ndarray:
    """Return `draws_NS` in [0, 1), S = count: counters hashed with the key and their purpose."""
    counter = index_N.astype(np.uint64)[:, None] * np.uint64(count) + np.arange(
        count, dtype=np.uint64
    )
    return (pipeline.mix(counter, key, what) >> np.uint64(11)) * 2.0**-53


def normal(key: Key, index_N: np.ndarray, what: str, count: int) -> np.ndarray:
    """Return `draws_NS` of the standard normal distribution (Box & Muller 1958)."""
    half = -(-count // 2)
    u = uniform(key, index_N, what, 2 * half)
    radius, angle = np.sqrt(-2 * np.log1p(-u[:, :half])), 2 * np.pi * u[:, half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :count]


def cast(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Convert to `dtype`; to uint8 by rounding and clipping to 0 and 255."""
    return np.clip(np.rint(x), 0, 255).astype(dtype) if dtype == np.uint8 else x.astype(dtype)


def crop(x_NHWC: np.ndarray, draws_N2: np.ndarray, pixels: int, fill: float) -> np.ndarray:
    """Shift each example by -pixels to pixels rows and columns; pad with `fill`."""
    _, height, width, _ = x_NHWC.shape
    move = np.floor(draws_N2 * (2 * pixels + 1)).astype(np.int64) - pixels
    row_NH, col_NW = np.arange(height) + move[:, :1], np.arange(width) + move[:, 1:]
    inside = ((row_NH >= 0) & (row_NH < height))[:, :, None] & ((col_NW >= 0) & (col_NW < width))[
        :, None
    ]
    row_NH, col_NW = row_NH.clip(0, height - 1), col_NW.clip(0, width - 1)
    moved = x_NHWC[np.arange(len(x_NHWC))[:, None, None], row_NH[:, :, None], col_NW[:, None]]
    return np.where(inside[..., None], moved, np.asarray(fill, x_NHWC.dtype))


def mask(x_NHWC: np.ndarray, draws_NS: np.ndarray, most: int, axis: int) -> np.ndarray:
    """Mask frames (axis 1) or bands (axis 2) as SpecAugment does (Park et al. 2019, section 2).

    Each mask sets 0 to `most` of them to the example's mean.
    """
    size = x_NHWC.shape[axis]
    index, hidden = np.arange(size), np.zeros((len(x_NHWC), size), bool)
    for i in range(0, draws_NS.shape[1], 2):
        length = np.floor(draws_NS[:, i] * (most + 1))
        start = np.floor(draws_NS[:, i + 1] * (size - length + 1))
        hidden |= (index >= start[:, None]) & (index < (start + length)[:, None])
    mean = x_NHWC.mean(axis=(1, 2, 3), keepdims=True).astype(x_NHWC.dtype)
    return np.where(np.expand_dims(hidden, (3, 3 - axis)), mean, x_NHWC)


def drop(tokens_NT1: np.ndarray, draws_NS: np.ndarray, fraction: float) -> np.ndarray:
    """Set items of a sequence to 0 with that probability, except the last one.

    0 is padding, never a target. As an input it is a mask, as in the cloze task of BERT4Rec (Sun et
    al. 2019).
    """
    hidden = draws_NS < fraction
    hidden[:, -1] = False
    return np.where(hidden, np.asarray(0, tokens_NT1.dtype), tokens_NT1)
