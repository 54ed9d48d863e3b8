"""Test results that are not what they should be: of another run, changed, or of wrong types."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from scaling import results
from scaling.utils.errors import UserError
from tests.sweep.execute.test_progress import row


@pytest.fixture
def workdir(tmp_path):
    """A workdir of two results, "a" and "b"."""
    for name, loss in (("a", 3.0), ("b", 2.0)):
        results.write(tmp_path / "runs" / name / "result.json", row(name, loss=loss))
    return tmp_path


def collected(workdir) -> tuple[list[str], list[str]]:
    rows, damaged = results.collect(workdir)
    assert all("\n" not in line and line.endswith(results.SKIPPED) for line in damaged)
    return [r.run_id for r in rows], damaged


def test_a_copied_folder_does_not_count_twice(workdir):
    shutil.copytree(workdir / "runs" / "a", workdir / "runs" / "a copy")
    names, (line,) = collected(workdir)
    assert names == ["a", "b"]
    assert f"{workdir}/runs/a copy/result.json: is of another run, a; " in line


@pytest.mark.parametrize("name", results.ENDS)
def test_a_result_of_another_run_replaces_none(workdir, name):
    (workdir / "runs" / "a" / "result.json").unlink()
    stranger = json.dumps(dataclasses.asdict(row("b", loss=9.0)))
    (workdir / "runs" / "a" / name).write_text(stranger)
    names, (line,) = collected(workdir)
    assert names == ["b"] and f"runs/a/{name}: is of another run, b" in line
    assert results.collect(workdir)[0][0].loss == 2.0


@pytest.mark.parametrize("column", [f.name for f in dataclasses.fields(results.RunResult)])
def test_a_changed_column_is_noticed(workdir, column):
    path = workdir / "runs" / "a" / "result.json"
    stored = json.loads(path.read_text())
    value = stored[column]
    changed = {"x": 1.0} if column == "metrics" else f"{value}x" if isinstance(value, str) else 7
    path.write_text(json.dumps({**stored, column: changed}))
    names, (line,) = collected(workdir)
    assert names == ["b"] and "runs/a/result.json: " in line


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("packed", float("inf"), "column packed=inf is not int"),
        ("tokens", 10**400, "column tokens=1000"),
        ("tokens", 1.5, "column tokens=1.5 is not int"),
        ("tokens", -1, "column tokens=-1 is not int"),
        ("n_params", "many", "column n_params='many' is not int"),
        ("n_params", [1], "column n_params=[1] is not int"),
        ("n_params", True, "column n_params=True is not int"),
        ("loss", float("nan"), "column loss=nan is not float"),
        ("loss", None, "column loss is empty though the run is done"),
        ("loss", {}, "column loss={} is not float"),
        ("status", "dnoe", "column status='dnoe' is not"),
        ("device", 3, "column device=3 is not str"),
        ("metrics", [], "metrics are not names and numbers"),
        ("metrics", {"accuracy": "high"}, "column accuracy='high' is not float"),
    ],
    ids=map(str, range(14)),
)
def test_a_column_of_a_wrong_type_is_named(workdir, column, value, reason):
    """Without the seal, as in files of older versions."""
    values = {**dataclasses.asdict(row("a")), column: value}
    (workdir / "runs" / "a" / "result.json").write_text(json.dumps(values))
    names, (line,) = collected(workdir)
    assert names == ["b"] and f"runs/a/result.json: {reason}" in line


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b"1", b"{}"])
def test_a_file_that_is_no_result_is_named(workdir, content):
    (workdir / "runs" / "a" / "result.json").write_bytes(content)
    names, (line,) = collected(workdir)
    assert names == ["b"] and "runs/a/result.json: " in line and len(line) < 500


def test_a_folder_and_a_stray_file_are_no_results(workdir):
    (workdir / "runs" / "a" / "result.json").unlink()
    (workdir / "runs" / "a" / "result.json").mkdir()
    (workdir / "runs" / "notes.txt").write_text("not a run")
    names, (line,) = collected(workdir)
    assert names == ["b"] and "runs/a/result.json: cannot be read (Is a directory)" in line


def test_a_newer_result_is_refused(workdir):
    path = workdir / "runs" / "a" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99, "loss": "later"}))
    with pytest.raises(UserError, match="written by a newer version"):
        results.collect(workdir)


def test_a_file_in_place_of_the_folder_of_runs_is_refused(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="runs is not a folder; move it away"):
        results.collect(tmp_path)
