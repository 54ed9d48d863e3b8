"""Test files of rows: one writer at a time, even if the previous one was suspended in a write."""

from __future__ import annotations

import json

import pytest

from scaling.utils import files
from scaling.utils.errors import LostClaim


def steps(path) -> list[int]:
    return [row["step"] for row in files.read_lines(path, "step")]


def test_a_writer_that_lost_the_file_writes_nothing(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.append_lines(path, [{"step": 1}])

    def lost():
        raise LostClaim("taken over")

    with pytest.raises(LostClaim):
        files.append_lines(path, [{"step": 2}], lost)
    assert steps(path) == [1]


def test_a_writer_suspended_before_its_write_writes_to_a_file_that_is_never_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.append_lines(path, [{"step": 1}])

    def taken_over_meanwhile():  # by another worker while this one is suspended
        files.renew(path)
        files.append_lines(path, [{"step": 2}])

    files.append_lines(path, [{"step": 3}], taken_over_meanwhile)
    assert steps(path) == [1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_renewing_keeps_every_byte_and_needs_no_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    files.renew(path)
    assert not path.exists()
    path.write_bytes(b'{"step": 1}\n{"torn')
    before = path.stat().st_ino
    files.renew(path)
    assert path.read_bytes() == b'{"step": 1}\n{"torn' and path.stat().st_ino != before


def test_json_has_null_where_a_number_is_not_finite(tmp_path):
    path = tmp_path / "law.json"
    files.write_json(path, {"a": [float("nan"), 1.5], "b": {"c": (float("inf"), "x", 3)}})

    def refuse(name):
        raise AssertionError(name)

    stored = json.loads(path.read_text(), parse_constant=refuse)
    assert stored == {"a": [None, 1.5], "b": {"c": [None, "x", 3]}}
