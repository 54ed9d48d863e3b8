"""`scaling report` of a study; of a single run see test_train.py."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.commands.common import assert_refused, call

BAD = {
    "report": "--workdir is missing",
    "report --workdir=nowhere": "nowhere/summary.txt: no such file",
    "report --workdir=W --config.seed=1":
        "--config.seed=1: `scaling report` reads the workdir's own config here; give --config",
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


def test_report_repeats_the_summary(capsys, mini):
    code, out, _ = call(capsys, "report", f"--workdir={mini}")
    assert code == 0 and out == (mini / "summary.txt").read_text()


def test_a_report_in_every_format(capsys, mini):
    flags = ("report", f"--workdir={mini}")
    _, out, _ = call(capsys, *flags, "--json")
    content = json.loads(out)
    assert content["summary"] == (mini / "summary.txt").read_text().splitlines()
    law = content["curves"]["chinchilla"]["parameters"]
    _, out, _ = call(capsys, *flags, "--format=csv")
    rows = {(r["curve"], r["parameter"]): r for r in csv.DictReader(io.StringIO(out))}
    for name, value in law.items():
        assert float(rows["chinchilla", name]["value"]) == value["value"]
    assert ("chinchilla_bootstrap", "alpha") not in rows, "one law is one set of rows"
    _, out, _ = call(capsys, *flags, "--format=markdown")
    assert "| chinchilla | alpha |" in out
    _, out, _ = call(capsys, *flags, "--format=latex")
    assert r"\begin{tabular}{llrrrr}" in out
