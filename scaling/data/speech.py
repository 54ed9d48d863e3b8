"""Read labelled sounds as log-mel grids (frames, bands, 1): a Debian voice, .wav files, or TFDS.

`debian/festvox_ru` is Debian's package festvox-ru: 620 utterances of one speaker at 16 kHz, aligned
to 54,372 segments of 51 labels (50 phones and the pause `pau`). The model classifies segments.
Copyright 2005 Nickolay V. Shmyrev, BSD-like. An example is the frames of one segment, from the one
nearest to its begin to the one before its end. pip installs no such data, so the error of
`embedded` names the package.
"""

from __future__ import annotations

import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from scaling.data import labelled, mel
from scaling.data.labelled import Corrupt, Example, Source
from scaling.data.tfds_examples import TfdsSounds
from scaling.utils.errors import UserError

FESTVOX_FOLDER = "/usr/share/festival/voices/russian/msu_ru_nsh_clunits"
FESTVOX_CLASSES = (
    "a", "aa", "ae", "ay", "b", "bb", "c", "ch", "d", "dd", "e", "ee", "f", "ff", "g", "gg", "h",
    "hh", "i", "ii", "j", "k", "kk", "l", "ll", "m", "mm", "n", "nn", "oo", "p", "pau", "pp", "r",
    "rr", "s", "sch", "sh", "ss", "t", "tt", "u", "ur", "uu", "v", "vv", "y", "yy", "z", "zh", "zz",
)  # fmt: skip
FESTVOX_FIX = (
    "`apt-get install festvox-ru`, or set config.data.path to the folder of its lab/ and wav/"
)
SPEAKER_END = "_nohash_"  # follows the speaker in file names of Speech Commands (Warden 2018)


def source(data, cache_dir: Path) -> Source:
    """Return the source of sounds that the config's `data` section names."""
    shape = (data.height, data.width, data.channels)
    if data.name == "embedded":
        raise UserError(
            "config.data.name='embedded': pip installs no speech; set "
            f"config.data.name=debian/festvox_ru after {FESTVOX_FIX}"
        )
    if min(shape) < 1 or data.channels != 1:
        raise UserError(
            f"config.data: height={data.height}, width={data.width}, channels={data.channels}: set "
            "config.data.height to the number of frames of 10 ms, config.data.width to that of mel "
            "bands, and config.data.channels=1"
        )
    if data.name == "debian/festvox_ru":
        return FestvoxRu(data.path, shape)
    if data.name == "audio_folder":
        return AudioFolder(data.path, shape)
    return TfdsSounds(data, cache_dir)


class FestvoxRu:
    """The segments of the utterances, grouped by utterance."""

    classes: tuple[str, ...] = FESTVOX_CLASSES
    dtype = np.dtype(np.float32)
    splits: tuple[str, ...] = ("train",)

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        folder = Path(path or FESTVOX_FOLDER).expanduser()
        self.shape = shape
        self.labels = sorted((folder / "lab").glob("*.lab"))
        self.waves = [folder / "wav" / f"{file.stem}.wav" for file in self.labels]
        missing = [file for file in self.waves if not file.is_file()]
        if not self.labels or missing:
            first = missing[0] if missing else folder / "lab"
            raise UserError(
                f"config.data.name='debian/festvox_ru': {first} is missing or empty; {FESTVOX_FIX}"
            )

    def identity(self) -> dict:
        return {"files": labelled.stats([*self.labels, *self.waves])}

    def read(self, split: str) -> Iterator[Example | Corrupt]:
        for labels, file in zip(self.labels, self.waves, strict=True):
            segments = self.segments(labels)
            try:
                samples_S, rate = read_wave(file)
            except ValueError as error:  # all segments of the file are unreadable
                yield from (Corrupt(f"{file}[{i}]", str(error)) for i in range(len(segments)))
                continue
            x_TM = mel.log_mel(samples_S, rate, self.shape[1])
            per_second = rate / mel.hop(rate)
            for i, (begin, end, label) in enumerate(segments):
                first, last = round(begin * per_second), round(end * per_second)
                if first >= min(last, len(x_TM)):
                    yield Corrupt(f"{labels}[{i}]", f"no frame from {begin} to {end} s")
                    continue
                content = samples_S[round(begin * rate) : round(end * rate)].tobytes()
                x_HWC = mel.middle(x_TM[first:last], self.shape[0])[..., None]
                yield Example(x_HWC, label, file.stem.encode(), content, f"{labels}[{i}]")

    def segments(self, path: Path) -> list[tuple[float, float, int]]:
        """Return (begin, end, label) of each segment, in seconds. Raises UserError at a bad line.

        The format is that of xlabel: a header that ends with `#`, then lines `end colour name`.
        """
        segments, begin, index = [], 0.0, {name: i for i, name in enumerate(self.classes)}
        lines = path.read_text(encoding="latin-1").splitlines()
        start = lines.index("#") + 1 if "#" in lines else len(lines)
        if start == len(lines):
            raise UserError(f"{path}: no segments after a line `#`; {FESTVOX_FIX}")
        for number, line in enumerate(lines[start:], start + 1):
            parts = line.split()
            if not parts:
                continue
            try:
                end, _, name = parts
                segments.append((begin, float(end), index[name]))
            except (ValueError, KeyError) as error:
                raise UserError(
                    f"{path}, line {number}: {line!r} is not an end in seconds, a colour and one "
                    f"of the {len(index)} labels; correct or remove it"
                ) from error
            begin = float(end)
        return segments


class AudioFolder:
    """`<path>/<class>/<file>.wav`: the middle of each; all of one sampling rate.

    The group is the part of the file's name before `_nohash_`, as in Speech Commands, else the
    content.
    """

    dtype = np.dtype(np.float32)
    splits: tuple[str, ...] = ("train",)

    def __init__(self, path: str, shape: tuple[int, int, int]) -> None:
        self.files = labelled.class_folders(path, (".wav",))
        self.classes, self.shape = tuple(self.files), shape

    def identity(self) -> dict:
        return {"files": labelled.stats([file for files in self.files.values() for file in files])}

    def read(self, split: str) -> Iterator[Example | Corrupt]:
        first: tuple[Path, int] | None = None
        for label, files in enumerate(self.files.values()):
            for file in files:
                try:
                    samples_S, rate = read_wave(file)
                except ValueError as error:
                    yield Corrupt(str(file), str(error))
                    continue
                first = first or (file, rate)
                if rate != first[1]:
                    raise UserError(
                        f"{file}: {rate} Hz, but {first[0]} has {first[1]} Hz; resample one of them"
                    )
                content = samples_S.tobytes()
                speaker, separator, _ = file.stem.partition(SPEAKER_END)
                x_TM = mel.log_mel(samples_S, rate, self.shape[1])
                x_HWC = mel.middle(x_TM, self.shape[0])[..., None]
                group = speaker.encode() if separator else content
                yield Example(x_HWC, label, group, content, str(file))


def read_wave(path: Path) -> tuple[np.ndarray, int]:
    """Return (`samples_S` float32 in [-1, 1], sampling rate in Hz) of a mono 8- or 16-bit PCM file.

    Raises ValueError with the reason if it is unreadable.
    """
    try:
        with wave.open(str(path)) as file:
            channels, width, rate, frames = file.getparams()[:4]
            raw = file.readframes(frames)
    except (wave.Error, EOFError, OSError) as error:
        raise ValueError(f"not a PCM .wav file: {error or 'it ends in its header'}") from error
    if channels != 1 or width not in (1, 2):
        raise ValueError(f"{channels} channels of {8 * width} bits, not 1 of 8 or 16")
    if not frames or len(raw) != frames * width:
        raise ValueError(f"{len(raw)} bytes of samples, its header says {frames * width}")
    if width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128, rate
    return np.frombuffer(raw, "<i2").astype(np.float32) / 32768, rate
