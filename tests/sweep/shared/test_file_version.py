"""Test that workdirs of older versions are read, and those of newer versions refused."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import pytest

from scaling import cli, results
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError
from scaling.utils.file_version import SCHEMA
from tests.analysis.known import row
from tests.common import ROOT


@pytest.fixture
def copy(mini, tmp_path):
    return shutil.copytree(mini, tmp_path / "copy")


def one_result(workdir):
    return sorted(workdir.glob("runs/*/result.json"))[0]


def set_schema(path, number):
    """Store the schema number; None removes it, as in files of the first version."""
    values = json.loads(path.read_text())
    assert values.pop("schema") == SCHEMA
    files.write_json(path, values if number is None else {**values, "schema": number})


@pytest.mark.parametrize("command", ["sweep", "status", "fit", "curves"])
def test_a_newer_workdir_is_refused_and_left_alone(copy, command, capsys):
    path = copy / "sweep.json"
    set_schema(path, SCHEMA + 1)
    # a newer version has unknown keys, but the error must name the schema
    files.write_json(path, {**files.read_json(path), "later": {"key": 1}})
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*")}
    code = cli.main([command, f"--config={ROOT}/configs/mini.py", f"--workdir={copy}"])
    out, err = capsys.readouterr()
    assert code == EXIT_BAD_INPUT and not out
    assert err == (
        f"error: {path} was written by a newer version of scaling (schema {SCHEMA + 1}, this one "
        f"reads up to {SCHEMA}); update scaling\n"
    )
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*")} == before


def test_a_newer_result_is_refused_and_not_called_damaged(copy, capsys):
    path = one_result(copy)
    files.write_json(path, {"schema": SCHEMA + 1, "columns": "others"})
    code = cli.main(["sweep", f"--config={ROOT}/configs/mini.py", f"--workdir={copy}"])
    error = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT
    assert len(error.splitlines()) == 1
    assert f"{path} was written by a newer version of scaling" in error


def test_files_without_a_number_are_read(copy, mini):
    for path in (copy / "sweep.json", one_result(copy), *copy.glob("runs/*/config.json")):
        set_schema(path, None)
    assert cli.main(["curves", f"--config={ROOT}/configs/mini.py", f"--workdir={copy}"]) == 0
    assert results.collect(copy) == results.collect(mini)


def test_a_number_that_is_none_is_refused(tmp_path):
    files.write_json(tmp_path / "result.json", {"schema": "2b"})
    with pytest.raises(UserError, match="schema '2b'"):
        results.read(tmp_path / "result.json")


def test_rows_older_than_experts_are_dense():
    values = dataclasses.asdict(row(1, n_params=10_000, n_params_active=4_000))
    del values["n_params_active"]
    assert results.from_row(values).n_params_active == 10_000
    text = {k: str(v) for k, v in values.items() if k != "metrics"}  # as of a runs.csv
    assert results.from_row(text).n_params_active == 10_000
    assert results.from_row({**text, "accuracy": "0.5", "auc": ""}).metrics == {"accuracy": 0.5}


def test_the_page_of_the_table_has_every_column():
    page = (ROOT / "docs" / "runs_table.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == results.FIELDS
