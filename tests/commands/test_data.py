"""Test `scaling data`: the description of a folder of text, and what it refuses."""

from __future__ import annotations

import json

from tests.commands.common import assert_refused, call


def test_a_folder_is_prepared_and_described(texts, capsys):
    line = ["data", "--config=mini", *(f"--config.{key}={v}" for key, v in texts[1].items())]
    code, out, _ = call(capsys, *line)
    assert code == 0 and "bytes_per_token" in out and "held-out documents in train: 0" in out
    code, out, _ = call(capsys, *line, "--json")
    found = json.loads(out)
    assert sum(row["documents"] for row in found["splits"]) == 40
    assert len(found["excerpts"]) == 10


def test_other_fields_are_refused(capsys):
    assert_refused(capsys, "data --config=vision_quickstart", "describes text")
