"""`scaling gain` of two CSVs, and of one with families."""

from __future__ import annotations

import csv
import io
import json

import pytest

from scaling.utils.errors import EXIT_BAD_INPUT
from tests.commands.common import assert_refused, call, write_csv

BAD = {
    "gain": "the following arguments are required: CSV",
    "gain t.csv": "give BASELINE.csv NEW.csv",
    "gain a.csv b.csv --at=1e18:1e19": "--at=1e18:1e19: not numbers of FLOPs",
    "gain a.csv b.csv --tokens=tokens": "a.csv: no such file",
    "gain A.csv B.csv --config.seed=1": "--config.seed=1: `scaling gain` reads no config here",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


def test_gain_of_two_csvs_and_of_one_with_families(capsys, tmp_path):
    from tests.laws.test_gain import GAMMA, family

    base, new = family(1.0), family(0.8)
    paths = [write_csv(tmp_path / f"{n}.csv", t.columns) for n, t in (("a", base), ("b", new))]
    flags = ("--tokens=tokens", "--at=1e19,1e21", "--bootstrap=100", f"--out={tmp_path}")
    code, out, err = call(capsys, "gain", *paths, *flags)
    assert code == 0 and "no dependence of the gain on compute" in out, err
    content = json.loads((tmp_path / "gain.json").read_text())
    assert content["params"]["slope"]["value"] == pytest.approx(0, abs=1e-4)
    assert content["n_rows"] == 72 and content["verdict"] == "good"
    assert any("extrapolated to 10 times its dearest run" in w for w in content["warnings"])
    assert (tmp_path / "gain_curve.png").is_file() and "gain_curve.png" in out
    lines = (tmp_path / "gain.csv").read_text().splitlines()
    assert lines[0] == "flops,new_loss,gain,low,high,never_in_share" and len(lines) == 3
    for line in lines[1:]:
        assert float(line.split(",")[2]) == pytest.approx(0.8 ** (-1 / GAMMA), rel=1e-3)
    both = {c: [*base[c], *new[c]] for c in ("n_params", "tokens", "loss")}
    one = write_csv(tmp_path / "one.csv", {**both, "recipe": ["old"] * 36 + ["new"] * 36})
    code, again, err = call(capsys, "gain", one, "--family=recipe", "--baseline=old", *flags)
    assert code == 0 and again.splitlines()[-6:-3] == out.splitlines()[-6:-3], err
    code, _, err = call(capsys, "gain", one, "--family=recipe", "--baseline=first", *flags)
    assert code == EXIT_BAD_INPUT and "column recipe has new, old" in err

    code, out, _ = call(capsys, "gain", *paths, *flags, "--format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["flops"]) for row in rows] == [1e19, 1e21]
    assert [float(r["gain"]) for r in rows] == [float(line.split(",")[2]) for line in lines[1:]]
