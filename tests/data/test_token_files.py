"""Many processes write the same tokens as one, and a stopped preparation resumes at its shard."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.data import cache, encode, prepare, sources, token_files
from scaling.data.tokenizers import ByteTokenizer
from scaling.utils import process
from scaling.utils.errors import Preempted, UserError

TEXTS = [f"document {i}: grüße {'und mehr ' * (i % 97)}" for i in range(2000)]


def section(path, cache_dir, **values):
    values |= {"name": "jsonl", "path": str(path), "cache_dir": str(cache_dir)}
    flat = {f"data.{k}": v for k, v in values.items()}
    return config_lib.with_values(config_lib.base_config(), flat).data


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


@pytest.fixture
def one_dead_process():
    """The prefix of a folder whose builder is gone."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = process.this()
    return cache._prefix(process.Process(here.host, here.machine, ended.pid, 1))


def test_processes_write_the_tokens_of_one(rows, tmp_path, monkeypatch):
    values = {"tokenizer": "bpe", "vocab_size": 300}
    alone = prepare.prepare(section(rows, tmp_path / "a", **values))
    monkeypatch.setattr(encode, "ALONE", 0)
    monkeypatch.setattr(encode, "cores", lambda: 2)
    by_two = prepare.prepare(section(rows, tmp_path / "b", **values))
    assert by_two.fingerprint == alone.fingerprint
    np.testing.assert_array_equal(by_two.train, alone.train)
    file = json.loads((alone.folder / "tokenizer.json").read_text())
    file["normalizer"] = {"type": "Lowercase"}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file))
    rows.write_text(rows.read_text() + json.dumps({"text": "A capital"}) + "\n")
    with pytest.raises(UserError, match=r"the document that begins 'A capital' has"):
        prepare.prepare(section(rows, tmp_path / "b", **values, tokenizer_path=str(path)))
    assert len(list((tmp_path / "b" / "tokens").iterdir())) == 1


def test_a_stopped_preparation_resumes_at_the_last_finished_shard(
    rows, tmp_path, monkeypatch, one_dead_process
):
    whole = prepare.prepare(section(rows, tmp_path / "a"))
    monkeypatch.setattr(token_files, "SHARD", 100_000)
    encoded: list[int] = []
    limit = 1000

    def encode_batch(self, texts, plain=ByteTokenizer.encode_batch):
        encoded.append(len(texts))
        if sum(encoded) > limit:
            raise Preempted("SIGTERM")
        return plain(self, texts)

    monkeypatch.setattr(ByteTokenizer, "encode_batch", encode_batch)
    data = section(rows, tmp_path / "b")
    with pytest.raises(Preempted):
        prepare.prepare(data)
    (left,) = (tmp_path / "b" / "tokens").iterdir()
    done = json.loads((left / cache.PROGRESS).read_text())
    assert 0 < done["documents"] <= 1000 and not (left / "meta.json").exists()
    (left / "train.bin").open("ab").write(b"of the next shard, torn")
    left.rename(left.with_name(one_dead_process + "abcdefgh"))
    encoded, limit = [], 10**9
    resumed = prepare.prepare(data)
    assert sum(encoded) == len(TEXTS) - done["documents"]
    assert resumed.fingerprint == whole.fingerprint
    assert [path.name for path in resumed.folder.parent.iterdir()] == [resumed.folder.name]
    assert not (resumed.folder / cache.PROGRESS).exists()


def test_documents_that_changed_meanwhile_are_named(tmp_path, one_dead_process, monkeypatch):
    monkeypatch.setattr(token_files, "SHARD", 1)
    texts = TEXTS[:600]
    monkeypatch.setattr(sources, "documents", lambda data, root: (texts, None))
    data = section("any", tmp_path)
    monkeypatch.setattr(sources, "identity", lambda data: {})

    def stop(path, seal=True, plain=cache.file_hash):
        raise Preempted("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(token_files.Path, "unlink", lambda *a, **k: None)  # as before the last shard
        patch.setattr(cache, "file_hash", stop)
        with pytest.raises(Preempted):
            prepare.prepare(data)
    (left,) = (tmp_path / "tokens").iterdir()
    left.rename(left.with_name(one_dead_process + "abcdefgh"))
    texts = ["other", *texts[1:]]
    with pytest.raises(UserError, match=r"its documents changed since .* run again to begin anew"):
        prepare.prepare(data)
    assert len(prepare.prepare(data).train) > 0


def test_what_was_left_out_is_counted_and_said(rows, tmp_path, caplog):
    rows.write_text(rows.read_text() + '{"id": 1}\n{"text": " "}\n{"text": 5}\n{"id": 2}\n')
    data = prepare.prepare(section(rows, tmp_path / "c", errors="skip"))
    skipped = json.loads((data.folder / "meta.json").read_text())["skipped"]
    assert {reason: fault["count"] for reason, fault in skipped.items()} == {
        "no key 'text'": 2, "blank": 1, "'text' is int, not text": 1,
    }  # fmt: skip
    assert skipped["no key 'text'"]["first"] == f"{rows} line 2,001"
    assert f"no key 'text' (2, first {rows} line 2,001); blank (1, " in caplog.text
