"""Test log-mel grids against scipy, and sounds split by utterance or speaker."""

from __future__ import annotations

import json
import wave

import numpy as np
import pytest
from scipy import signal

from scaling.config import load as config_lib
from scaling.data import examples, mel
from scaling.utils.errors import UserError

RATE = 16_000
ROUNDING = 1e-6  # relative, of the float32 floor: log10 of a vector unit may round its last bits


def section(**values):
    flat = {f"data.{k}": v for k, v in {"field": "speech", **values}.items()}
    return config_lib.with_values(config_lib.base_config(), flat).data


def tone(hertz, seconds, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write_wave(path, samples, rate=RATE, channels=1):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        file.writeframes(np.rint(samples * 32767).astype("<i2").tobytes())


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050])
def test_spectrogram_is_scipys(rate):
    samples = np.random.default_rng(0).normal(size=rate // 3)
    length, step = round(0.025 * rate), mel.hop(rate)
    padded = np.pad(samples, length // 2 + length)[length:]
    size = 1 << (length - 1).bit_length()
    _, _, z_FT = signal.stft(
        padded, rate, "hann", length, length - step, size, boundary=None, padded=False
    )
    ours = mel.spectrogram(samples, rate)
    assert len(ours) == 1 + len(samples) // step
    np.testing.assert_allclose(ours, (np.abs(z_FT) ** 2).T[: len(ours)], rtol=1e-9, atol=1e-15)


def test_mel_filters_are_those_made_by_hand():
    # 3 bands at 8 kHz: corners at 0, m/4, m/2, 3m/4, m of m = 2595 log10(1 + 4000 / 700) = 2146.06
    corners = [700 * (10 ** (2146.0644 * i / 4 / 2595) - 1) for i in range(5)]
    np.testing.assert_allclose(corners, [0, 426.89, 1114.12, 2220.44, 4001.49], rtol=5e-3)
    weight = mel.filters(8000, 3)
    frequency = np.arange(129) * 8000 / 256
    for band in range(3):
        expected = np.interp(frequency, corners[band : band + 3], [0, 1, 0], left=0, right=0)
        np.testing.assert_allclose(weight[band], expected, atol=1e-6)
    np.testing.assert_allclose(weight.sum(0)[(frequency > 450) & (frequency < 2200)], 1, atol=1e-9)


def test_a_tone_has_its_power_in_its_band_and_silence_is_the_floor():
    x_TM = mel.log_mel(tone(1000, 0.5), RATE, 40)
    assert x_TM.shape == (51, 40) and x_TM.dtype == np.float32
    centres = mel.to_hertz(np.linspace(0, mel.to_mel(RATE / 2), 42))[1:-1]
    assert (x_TM[5:-5].argmax(axis=1) == np.abs(centres - 1000).argmin()).all()
    # a sine of amplitude 1/2 has power 1/16, spread by the window: Hann's 1.5 bins x 2 (padding)
    power = mel.spectrogram(tone(1000, 0.5), RATE)[25]
    assert power.max() == pytest.approx(1 / 16, rel=1e-2)
    assert power.sum() == pytest.approx(1 / 16 * 1.5 * 512 / 400, rel=1e-2)
    np.testing.assert_allclose(mel.log_mel(np.zeros(1000), RATE, 40), mel.FLOOR, rtol=ROUNDING)
    with pytest.raises(UserError, match=r"config\.data\.width=200"):
        mel.log_mel(np.zeros(1000), RATE, 200)


def test_the_middle_is_cut_out_or_padded_with_silence():
    x_TM = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(mel.middle(x_TM, 3), x_TM[1:4])
    padded = mel.middle(x_TM, 8)
    np.testing.assert_array_equal(padded[1:6], x_TM)
    assert (padded[[0, 6, 7]] == mel.FLOOR).all()


@pytest.fixture
def voice(tmp_path, monkeypatch):
    """Return 20 utterances of a low "a", a high "i" and a pause, in the format of festvox-ru."""
    from scaling.data import speech

    monkeypatch.setattr(speech.FestvoxRu, "classes", ("a", "i", "pau"))
    folder = tmp_path / "voice"
    (folder / "lab").mkdir(parents=True)
    (folder / "wav").mkdir()
    for u in range(20):
        low, high = tone(300 + u, 0.2), tone(3000 + u, 0.05)
        write_wave(folder / "wav" / f"ru_{u:02}.wav", np.concatenate([low, high, 0 * low]))
        (folder / "lab" / f"ru_{u:02}.lab").write_text(
            "#\n0.20000 125 a\n0.25000 125 i\n0.45000 125 pau\n"
        )
    return folder, section(
        name="debian/festvox_ru", path=str(folder), cache_dir=str(tmp_path / "c"), height=12,
        width=20, channels=1, classes=3, valid_fraction=0.3,
    )  # fmt: skip


def test_segments_are_labelled_grids_and_an_utterance_is_not_split(voice):
    read = examples.prepare(voice[1])
    assert len(read.train_y_N) + len(read.valid_y_N) == 60 and len(read.valid_y_N) >= 6
    assert not {*read.groups[0].tolist()} & {*read.groups[1].tolist()}
    assert len({*read.groups[0].tolist()}) == len(read.train_y_N) / 3
    x_TM, y = read.train_x_NHWC[..., 0], read.train_y_N
    assert (x_TM[y == 0].mean(axis=(0, 1)).argmax() < 5) and x_TM.dtype == np.float32
    assert x_TM[y == 1].mean(axis=(0, 1)).argmax() > 10
    # the 5 frames of the short segment are in the middle of 12
    loud = x_TM[y == 1].max(axis=2) > mel.FLOOR * (1 - ROUNDING)
    assert (loud.sum(axis=1) == 5).all() and loud[:, 3:8].all()
    assert x_TM[y == 2][:, 2:-2].max() == pytest.approx(mel.FLOOR, rel=ROUNDING)


def test_unreadable_sounds_are_skipped_by_name_and_bad_labels_are_named(voice):
    folder, data = voice
    wav = folder / "wav" / "ru_03.wav"
    wav.write_bytes(wav.read_bytes()[:2000])
    with pytest.raises(
        UserError, match=r"3 of 60 examples cannot be read \(.*ru_03\.wav\[0\]: 1956 bytes"
    ):
        examples.prepare(data)
    read = examples.prepare(section(**{**data.to_dict(), "max_corrupt": 0.05}))
    assert [name[-12:] for name in read.skipped] == [f"ru_03.wav[{i}]" for i in range(3)]
    lab = folder / "lab" / "ru_04.lab"
    lab.write_text("#\n0.20000 125 a\n0.25000 125 o\n")
    with pytest.raises(UserError, match=r"ru_04\.lab, line 3: '0\.25000 125 o' is not"):
        examples.prepare(data)
    lab.write_text("0.20000 125 a\n")
    with pytest.raises(UserError, match="no segments"):
        examples.prepare(data)


@pytest.fixture
def sounds(tmp_path):
    """Return two words by ten speakers, twice each, named as in Speech Commands."""
    for word, hertz in (("no", 400), ("yes", 2000)):
        (tmp_path / "sounds" / word).mkdir(parents=True)
        for s in range(10):
            for take in range(2):
                name = f"speaker{s}_nohash_{take}.wav"
                write_wave(tmp_path / "sounds" / word / name, tone(hertz + s, 0.1 + 0.05 * take))
    return section(
        name="audio_folder", path=str(tmp_path / "sounds"), cache_dir=str(tmp_path / "c"),
        height=12,
        width=20, channels=1, classes=2, valid_fraction=0.4,
    )  # fmt: skip


def test_speakers_are_on_one_side(sounds):
    read = examples.prepare(sounds)
    assert read.classes == ("no", "yes") and len(read.train_y_N) + len(read.valid_y_N) == 40
    train, valid = ({*groups.tolist()} for groups in read.groups)
    assert not train & valid and len(train) + len(valid) == 10
    assert json.loads((read.folder / "meta.json").read_text())["shape"] == [12, 20, 1]


def test_two_sampling_rates_stereo_and_missing_sizes_are_named(sounds, tmp_path):
    stereo = tmp_path / "sounds" / "no" / "zz.wav"
    write_wave(stereo, np.zeros(2000), channels=2)
    with pytest.raises(UserError, match=r"zz\.wav: 2 channels of 16 bits"):
        examples.prepare(sounds)
    write_wave(stereo, tone(300, 0.2, 8000), rate=8000)
    with pytest.raises(UserError, match=r"zz\.wav: 8000 Hz, but .* has 16000 Hz"):
        examples.prepare(sounds)
    with pytest.raises(UserError, match=r"config\.data\.width to that of mel bands"):
        examples.prepare(section(**{**sounds.to_dict(), "width": 0}))
    for values in ({"name": "embedded"}, {"name": "debian/festvox_ru", "path": "/nonexistent"}):
        with pytest.raises(UserError, match="apt-get install festvox-ru"):
            examples.prepare(section(**{**sounds.to_dict(), **values}))
