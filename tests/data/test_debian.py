"""Test the data sets of Debian packages, which CI installs."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.data import debian_text, examples, sources, speech, vision
from scaling.utils.errors import UserError


def require(needed: str) -> None:
    """Skip the test without the package's folder; fail in CI."""
    required = os.environ.get("SCALING_REQUIRE_DEBIAN_DATA") == "1"
    if not Path(needed).is_dir() and not required:
        pytest.skip(f"{needed} is not installed")


def prepared(needed: str, **values):
    require(needed)
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


@pytest.mark.slow
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
    # class means separate some phones: far better than the 7% of the most frequent phone
    x, y = np.asarray(read.train_x_NHWC), np.asarray(read.train_y_N)
    means = np.stack([x[y == k].mean(axis=0).ravel() for k in range(51)])
    valid_x = np.asarray(read.valid_x_NHWC).reshape(len(read.valid_y_N), -1)
    near = (means**2).sum(1) - 2 * valid_x @ means.T
    assert (near.argmin(axis=1) == read.valid_y_N).mean() > 0.2


def test_wordnet_has_a_document_per_set_of_synonyms():
    require("/usr/share/wordnet")
    documents = list(debian_text.DebianText("debian/wordnet-base"))
    assert len(documents) == 117_659  # as wnstats(7) has it for version 3.0
    assert "thing: a separate and self-contained entity" in documents
    assert all(": " in document for document in documents)


def test_the_english_mix_reads_what_dpkg_unpacks(tmp_path):
    share = tmp_path / "usr" / "share"
    files = {
        "dictd/gcide.dict.dz": (
            b"00-database-info\n\nA \\A\\, n.\n   1. First.\n\n   2. It\x92s.\n\n"
            b"B \\B\\, n.\n   Next.\n"
        ),
        "doc/linux-doc-6.12/Documentation/a/b.rst.gz": b"The kernel\n==========\n",
        "doc/linux-doc-6.12/Documentation/a/c.svg.gz": b"<svg/>",
        "doc/anarchism/markdown/one.md.gz": b"# FAQ\n\nWhat?\n",
        "wordnet/data.adj": (
            b"  1 licence\n00001740 00 a 02 able 0 fit_for 0 001 ! 00002098 a 0101 "
            b"| having power; \"able to swim\"  \n"
        ),
    }  # fmt: skip
    for name, content in files.items():
        path = share / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(content) if path.suffix in (".gz", ".dz") else content)
    flat = {"data.name": "debian/english", "data.path": str(tmp_path)}
    data = config_lib.with_values(config_lib.base_config(), flat).data
    documents, held_out = sources.documents(data, tmp_path)
    assert held_out is None
    assert list(documents) == [
        "00-database-info",
        "A \\A\\, n.\n   1. First.\n\n   2. It\ufffds.",
        "B \\B\\, n.\n   Next.\n",
        "The kernel\n==========\n",
        "# FAQ\n\nWhat?\n",
        'able, fit for: having power; "able to swim"',
    ]
    before = sources.identity(data)
    (share / "wordnet/data.adj").unlink()
    with pytest.raises(UserError, match="has no files of wordnet-base; `apt-get install"):
        sources.identity(data)
    data.name = "debian/anarchism"
    assert sources.identity(data) != before
    (share / "doc/anarchism/markdown/one.md.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"one\.md\.gz: damaged .* install its package again"):
        list(sources.documents(data, tmp_path)[0])
