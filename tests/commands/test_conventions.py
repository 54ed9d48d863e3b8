"""`scaling conventions` of a study; of a CSV see tests/laws/test_conventions.py."""

from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from tests.commands.common import assert_refused, call

BAD = {
    "conventions": "--workdir is missing",
    "conventions --workdir=nowhere": "--workdir=nowhere holds no sweep",
    "conventions nowhere.csv --tokens=tokens --by=seed": "nowhere.csv: no such file",
    "conventions --workdir=w --config.laws.bootstrap=9": "give --config, too",
    "conventions A.csv --config.seed=1": "--config.seed=1: `scaling conventions` reads no config",
    "conventions A.csv --workdir=W": "--workdir belongs to a study, not to a CSV",
    "conventions --workdir=W --out=O": "--out belongs to a CSV, `scaling conventions FILE.csv`",
    "conventions --workdir=W --confidence=2": "--confidence=2; must lie between 0 and 1",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


def test_conventions_of_a_study(capsys, mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    code, out, err = call(capsys, "conventions", f"--workdir={workdir}")
    assert code == 0, err
    content = json.loads((workdir / "curves" / "conventions.json").read_text())
    rows = {(r["n_params"], r["flops"]): r for r in content["rows"]}
    sizes = ("n_params", "n_params_with_head", "n_params_total")
    prices = ("exact", "appendix_f", "kaplan", "porian", "chinchilla", "k N D")
    assert list(rows) == [(n, c) for n in sizes for c in prices]
    assert all(bool(r["refused"]) == (r["a"]["value"] is None) for r in rows.values())
    known = json.loads((mini / "curves" / "n_opt.json").read_text())["parameters"]
    own = rows["n_params", "exact"]
    assert own["a"]["value"] == pytest.approx(known["isoflop"]["exponent"]["value"], abs=2e-3)
    law = rows["n_params", "k N D"]
    assert law["a"]["value"] == pytest.approx(known["chinchilla"]["a"]["value"])
    lines = out.splitlines()
    assert len(lines) == 1 + 18 + 1 + 1 and max(map(len, lines[:-1])) <= 100
    assert lines[-2] == "lines cut off; --wide shows all"
    with open(workdir / "curves" / "conventions.csv") as file:
        assert len(file.readlines()) == 19
    assert (workdir / "curves" / "conventions.png").read_bytes().startswith(b"\x89PNG")

    code, out, err = call(capsys, "conventions", f"--workdir={workdir}", "--by=seed")
    assert code == EXIT_BAD_INPUT and "--by belongs to a CSV" in err and out == ""
    table = workdir / "runs.csv"
    header, first, *others = table.read_text().splitlines()
    broken = first.replace('"done"', '"done",')
    table.write_text("\n".join([header, broken, *others]) + "\n")
    code, _, err = call(capsys, "conventions", f"--workdir={workdir}")
    assert code == EXIT_INCOMPLETE and "row 2" in err

    table.write_text("\n".join([header, first, *others]) + "\n")
    code, out, err = call(
        capsys, "conventions", f"--workdir={workdir}", "--method=akima", "--format=csv"
    )
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 18 and {"a", "a_low", "b_high"} <= set(rows[0]), err
