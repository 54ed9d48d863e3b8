"""`scaling curves` and `scaling holdout` of a finished study: only its workdir is needed."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.commands.common import assert_refused, call

BAD = {
    "curves": "--workdir is missing",
    "curves --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "curves --workdir=W --config.seed=1": "`scaling curves` reads the workdir's own config here",
    "holdout": "--workdir is missing",
    "holdout --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "holdout --config=configs/mini.py --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "holdout --workdir=W --config.seed=1": "`scaling holdout` reads the workdir's own config here",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


@pytest.mark.parametrize("command", ["curves", "holdout"])
def test_a_finished_study_needs_only_its_workdir(capsys, mini, tmp_path, command):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    results = {f: f.read_bytes() for f in workdir.glob("runs/*/result.json")}
    code, out, err = call(capsys, command, f"--workdir={workdir}", "--json")
    content = json.loads(out)
    assert code == 0 and content["summary"][0].startswith("Optimum per budget"), err
    assert len(content["pictures"]) == len(list(mini.glob("curves/*.png"))) > 5
    assert {f: f.read_bytes() for f in workdir.glob("runs/*/result.json")} == results
