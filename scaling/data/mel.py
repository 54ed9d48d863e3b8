"""Compute log-mel spectrograms in numpy.

Shapes: S samples in [-1, 1], T frames, F frequencies of the transform, M mel bands.

Frame t is centred on sample t * hop, with a hop of 10 ms, a periodic Hann window of 25 ms, and
zeros beyond the ends. Its power spectrum is computed at the next power of two and normalised so
that a sine of amplitude 1 has power 1/4. Bands are triangles of height 1 between points evenly
spaced from 0 to half the sampling rate on the scale m = 2595 log10(1 + f / 700) (O'Shaughnessy
1987, as in HTK). The logarithm is cut off at 1e-10 and scaled as in Whisper (Radford et al. 2022):
(log10(p) + 4) / 4.
"""

from __future__ import annotations

import functools

import numpy as np

from scaling.utils.errors import UserError

WINDOW_SECONDS, HOP_SECONDS = 0.025, 0.010
LEAST_POWER = 1e-10
FLOOR = -1.5  # the value of silence: (log10(LEAST_POWER) + 4) / 4


def hop(rate: int) -> int:
    """Return the samples from one frame to the next. `rate` in Hz."""
    return round(HOP_SECONDS * rate)


def log_mel(samples_S: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """Return `x_TM` float32 with T = 1 + S // hop. `rate` in Hz."""
    power_TF = spectrogram(samples_S, rate)
    power_TM = power_TF @ filters(rate, bands).T
    return ((np.log10(np.maximum(power_TM, LEAST_POWER)) + 4) / 4).astype(np.float32)


def spectrogram(samples_S: np.ndarray, rate: int) -> np.ndarray:
    """Return `power_TF` float64 of the short-time Fourier transform, F = size / 2 + 1."""
    length, step = round(WINDOW_SECONDS * rate), hop(rate)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    padded = np.pad(samples_S.astype(np.float64), length // 2 + 1)[1:]
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::step]
    frames = frames[: 1 + len(samples_S) // step]
    return np.abs(np.fft.rfft(frames * (window / window.sum()), _size(rate))) ** 2


@functools.cache
def filters(rate: int, bands: int) -> np.ndarray:
    """Return `weight_MF`. Raises UserError if a band falls between two frequencies."""
    frequency_F = np.fft.rfftfreq(_size(rate), 1 / rate)
    edges = to_hertz(np.linspace(0, to_mel(rate / 2), bands + 2))
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequency_F - low) / (mid - low), (high - frequency_F) / (high - mid)
    weight_MF = np.maximum(0, np.minimum(rising, falling))
    if not weight_MF.any(axis=1).all():
        raise UserError(
            f"config.data.width={bands}: so many mel bands are narrower than the "
            f"{frequency_F[1]:.0f} Hz between two frequencies at {rate} Hz; lower it"
        )
    return weight_MF


def to_mel(hertz):
    """Convert Hz to mel."""
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def to_hertz(mel):
    """Convert mel to Hz."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)


def middle(x_TM: np.ndarray, frames: int) -> np.ndarray:
    """Return the middle `frames` frames; pad fewer with silence on both sides."""
    length = len(x_TM)
    if length >= frames:
        start = (length - frames) // 2
        return x_TM[start : start + frames]
    before = (frames - length) // 2
    pads = ((before, frames - length - before), (0, 0))
    return np.pad(x_TM, pads, constant_values=x_TM.dtype.type(FLOOR))


def _size(rate: int) -> int:
    """Return the number of points of the Fourier transform."""
    return 1 << (round(WINDOW_SECONDS * rate) - 1).bit_length()
