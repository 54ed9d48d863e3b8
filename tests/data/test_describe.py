"""Test the description of prepared text against one made by plain Python."""

from __future__ import annotations

import json

import numpy as np

from scaling.config import load as config_lib
from scaling.data import describe, prepare

TEXTS = [f"document {i} of letters {'abcdefgh' * (i % 31)}" for i in range(300)]


def test_sizes_duplicates_and_overlap_are_those_of_plain_python(tmp_path, monkeypatch):
    monkeypatch.setattr(describe, "CHUNK", 1000)  # documents and runs cross its ends
    path = tmp_path / "a.jsonl"
    rows = [{"text": text} for text in (*TEXTS, TEXTS[0], TEXTS[0])] + [{"id": 1}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "name": "jsonl", "path": str(path), "errors": "skip", "valid_fraction": 0.2,
        "cache_dir": str(tmp_path / "c"),
    }  # fmt: skip
    flat = {f"data.{key}": value for key, value in values.items()}
    data = prepare.prepare(config_lib.with_values(config_lib.base_config(), flat).data)
    found = describe.describe(data)
    documents = [bytes(x).split(b"\0")[:-1] for x in (data.train, data.valid)]
    for row, texts in zip(found["splits"], documents, strict=True):
        lengths = sorted(map(len, texts))
        assert row["documents"] == len(texts) and row["tokens"] == sum(lengths) + len(texts)
        assert (row["shortest"], row["longest"]) == (lengths[0], lengths[-1])
        assert row["median"] in lengths[len(texts) // 2 - 1 : len(texts) // 2 + 1]
        assert row["duplicates"] == len(texts) - len({*texts}) and row["bytes_per_token"] == 1
    assert sum(row["duplicates"] for row in found["splits"]) == 2
    train, valid, run = bytes(data.train), bytes(data.valid), found["overlap"]["run_tokens"]
    begins = np.linspace(0, len(valid) - run, 1000, dtype=int)
    runs = [valid[at : at + run] for at in begins if b"\0" not in valid[at : at + run]]
    assert run == 64 and found["overlap"]["held_out_runs"] == len(runs)
    assert found["overlap"]["held_out_runs_in_train"] == sum(text in train for text in runs) > 0
    assert found["overlap"]["held_out_documents_in_train"] == 0
    assert found["left_out"] == [
        {"reason": "no key 'text'", "count": 1, "first": f"{path} line 303"}
    ]
    assert len(found["excerpts"]) == 10
    assert found["excerpts"][0]["begins"] == documents[0][0].decode().strip()[:80]
