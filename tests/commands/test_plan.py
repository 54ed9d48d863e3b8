"""`scaling plan` in every format, its limits and its bad input."""

from __future__ import annotations

import csv
import io
import json

import pytest

from scaling.utils.errors import EXIT_BAD_INPUT
from tests.commands.common import assert_refused, call
from tests.common import ROOT

QUICK = "plan --config=configs/python_text.py"
BAD = {
    "plan": "--config is missing",
    f"{QUICK} --config.optim.lrr=1": "no such key; did you mean config.optim.lr?",
    f"{QUICK} --config.optim.lr=quick": "config.optim.lr",
    f"{QUICK} --config.sweep.budgets=(1e3,)": "do not pay for one step of 1024 tokens",
    f"{QUICK} --flops=much": "--flops: 'much' is not a number: 0.003, 3e-3, 1_000, 1M or 2.5B",
    f"{QUICK} --time=soon": "--time: 'soon' is not a duration: 90s, 10m, 2h or 3d",
    f"{QUICK} --usd=-1": "--usd: '-1' is not positive",
    f"{QUICK} --compile --devices=1e5": "--devices=100000: no more than 4,096 are simulated",
    f"{QUICK} --format=xml": "--format: invalid choice: 'xml'",
    f"{QUICK} --json --format=csv": "--json and --format=csv are two formats",
    "plan --config=configs/nope.py": "--config=configs/nope.py: no such file",
    "plan --config=configs/base.py --config.model.head_dim=24":
        "not a multiple of config.model.head_dim=24",
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


def test_plan_prints_every_run_and_trains_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(capsys, "plan", f"--config={ROOT}/configs/python_text.py")
    assert code == 0
    assert "24 runs" in out and "held-out run" in out and "FLOPs" in out
    lines = out.splitlines()
    assert len(lines) == 1 + 24 + 1 + 5 and max(map(len, lines[:-5])) <= 100
    assert lines[-6].startswith("columns left out: total") and "--wide shows all" in lines[-6]
    assert lines[-4].startswith("not counted: compiling 8 programs")
    assert lines[-2].startswith("config.sweep.rungs=")
    assert lines[-1].startswith("recipe power: lr = 0.876 N^-0.4 (config.sweep.lr_coefficient")
    assert list(tmp_path.iterdir()) == []

    other = ("--config.sweep.kind=none", "--config.model.kind=lru", "--config.model.experts=4")
    code, out, _ = call(capsys, "plan", f"--config={ROOT}/configs/python_text.py", *other)
    assert code == 0 and out.splitlines()[1].endswith("  lru, 2 of 4 experts")
    code, out, _ = call(capsys, "plan", f"--config={ROOT}/configs/python_text.py", "--wide")
    assert {"total", "here"} <= set(out.splitlines()[0].split()) and "--wide" not in out


def test_a_plan_for_other_programs(capsys):
    code, out, _ = call(capsys, *QUICK.split(), "--json")
    plan = json.loads(out)
    assert code == 0 and len(plan["runs"]) == 24
    assert plan["flops"] == pytest.approx(sum(run["FLOPs"] for run in plan["runs"]))
    assert plan["holdout_flops"] == pytest.approx(3.2 * 9.6e11) and plan["seconds"] > 0
    _, out, _ = call(capsys, *QUICK.split(), "--format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(r["FLOPs"]) for r in rows] == [run["FLOPs"] for run in plan["runs"]]
    _, out, _ = call(capsys, *QUICK.split(), "--format=markdown")
    assert out.splitlines()[2].startswith("| budget | width |") and out.count("\n| ") == 25
    assert "- 24 runs, " in out
    _, out, _ = call(capsys, *QUICK.split(), "--format=latex")
    assert out.splitlines()[1].startswith(r"\begin{tabular}") and r"n\_params & total" in out


@pytest.mark.parametrize(
    ("limit", "flag"),
    [
        ("--flops=1e10", "--flops=1e+10"),
        ("--budget=1e10", "--budget=1e10"),
        ("--flops=10B", "--flops=1e+10"),
    ],
)
def test_a_plan_above_its_limit_is_refused_after_its_table(capsys, limit, flag):
    code, out, err = call(capsys, "plan", "--config=configs/mini.py", limit)
    assert code == EXIT_BAD_INPUT and "18 runs, " in out
    assert err.startswith(f"error: {flag}: 18 of 18 runs are left; together they need"), err
    assert call(capsys, "plan", "--config=configs/mini.py", "--flops=1e12")[0] == 0
