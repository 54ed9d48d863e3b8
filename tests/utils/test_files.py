"""Test files of rows: one writer at a time, even if the previous one was suspended in a write."""

from __future__ import annotations

import json
import os

import pytest

from scaling.utils import files
from scaling.utils.errors import LostClaim, UserError


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


WRONG = {
    "empty": b"",
    "half": b'{"a": 1',
    "a byte": b'{"a": "\xff"}',
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "brackets": b"[" * 100_000,
    "deep": b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "huge number": b'{"a": ' + b"9" * 5000 + b"}",
    "changed": b'{"a": 2, "seal": "0123456789abcdef"}',
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "law.json"
    path.write_bytes(content)
    with pytest.raises(files.Damaged) as caught:
        files.read_json(path)
    assert str(caught.value).startswith(f"{path}: damaged (") and "\n" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path):
    (tmp_path / "law.json").mkdir()
    with pytest.raises(files.Damaged, match=r"law\.json: damaged \(a folder, not a file\)"):
        files.read_json(tmp_path / "law.json")


def test_a_seal_covers_all_but_the_schema_and_is_not_returned(tmp_path):
    path, value = tmp_path / "a.json", {"schema": 2, "b": [1.5, None], "c": {"d": "e"}}
    files.write_json(path, value, seal=True)
    assert files.read_json(path) == value
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "schema": 1}))
    assert files.read_json(path)["schema"] == 1
    path.write_text(json.dumps({**stored, "b": [1.5000001, None]}))
    with pytest.raises(files.Damaged, match="differs from what was written"):
        files.read_json(path)


@pytest.mark.parametrize("unpack", [lambda v: v["b"], lambda v: v["a"]["b"], lambda v: v["a"][9]])
def test_what_is_missing_in_a_file_is_damage(unpack):
    caught = pytest.raises(files.Damaged, match=r"^x\.json: damaged \(.*\); restore it$")
    with caught, files.damage("x.json", "restore it"):
        unpack({"a": [1]})


BAD_ROWS = {
    "a byte": b'\xff{"step": 2, "loss": 1}',
    "torn": b'{"step": 2, "lo',
    "list": b"[]",
    "null": b"null",
    "blank": b"",
    "brackets": b"[" * 100_000,
    "no step": b'{"loss": 1}',
    "text as step": b'{"step": "2", "loss": 1}',
    "a share as step": b'{"step": 2.5, "loss": 1}',
    "a switch as step": b'{"step": true, "loss": 1}',
    "no loss": b'{"step": 2}',
    "text as loss": b'{"step": 2, "loss": "low"}',
    "null as loss": b'{"step": 2, "loss": null}',
    "NaN as loss": b'{"step": 2, "loss": NaN}',
    "no checksum": b'{"step": 2, "loss": 4.5, "crc32": null}',
    "huge loss": b'{"step": 2, "loss": 1' + b"0" * 400 + b"}",
}


@pytest.mark.parametrize("line", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_line_is_skipped_and_named(tmp_path, line, caplog):
    path, problems = tmp_path / "rows.jsonl", []
    path.write_bytes(b'{"step": 1, "loss": 4}\n' + line + b'\n{"step": 3, "loss": 2}\n')
    assert [r["step"] for r in files.read_lines(path, "step", ("loss",), problems)] == [1, 3]
    (problem,) = problems
    assert problem.startswith(f"{path}: line 2: ") and problem.endswith("; skipped")
    assert "\n" not in problem and len(problem) < 400 and not caplog.messages
    assert len(files.read_lines(path, "step", ("loss",))) == 2
    assert caplog.messages == [f"warning: {problem}"]


def test_appended_lines_are_read_back_and_a_changed_digit_or_another_run_is_named(tmp_path):
    path, other, problems = tmp_path / "a" / "rows.jsonl", tmp_path / "b" / "rows.jsonl", []
    files.append_lines(path, [{"step": 1, "loss": 0.1 + 0.2, "note": "ü"}, {"step": 2}])
    rows = files.read_lines(path, "step", (), problems)
    assert rows[0]["loss"] == 0.1 + 0.2 and len(rows) == 2 and not problems
    files.write_lines(other, rows)  # as a run that continues another one
    assert len(files.read_lines(other, "step", (), problems)) == 2 and not problems
    other.write_bytes(path.read_bytes())
    assert not files.read_lines(other, "step", (), problems)
    assert "line 1: crc32 is not that of the row: changed, or of another run, and" in problems[0]
    path.write_bytes(path.read_bytes().replace(b"0.3000", b"0.4000"))
    assert [row["step"] for row in files.read_lines(path, "step", (), problems)] == [2]


def test_a_pipe_in_place_of_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: cannot be read \(not a regular file"):
        files.read_json(tmp_path / "pipe")


def test_the_last_of_equal_steps_counts_and_a_line_torn_by_a_kill_is_no_damage(tmp_path):
    path, problems = tmp_path / "rows.jsonl", []
    path.write_bytes(b'{"step": 2, "a": 1}\n{"step": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a"')
    rows = files.read_lines(path, "step", (), problems)
    assert rows == [{"step": 1}, {"step": 2, "a": 2}] and not problems
    path.write_bytes(b"1\n2\n3\n")
    files.read_lines(path, "step", (), problems)
    assert problems == [f"{path}: line 1: not an object, and 2 more lines; skipped"]
