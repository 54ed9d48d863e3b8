"""`scaling design`: proposals without a table, and in rounds."""

from __future__ import annotations

import json

import pytest

from scaling.utils.errors import EXIT_BAD_INPUT
from tests.commands.common import assert_refused, call, write_csv

BAD = {
    "design --max_runs=9 --max_flops=1e20 --at=1e21": "--total_flops is missing",
    "design --total_flops=1e21 --max_runs=9 --max_flops=1e20 --at=1e21 --tokens_per_param=5:inf":
        "--tokens_per_param=5:inf: not LOW:HIGH",
    "design nowhere.csv --total_flops=1e21 --max_runs=9 --max_flops=1e20 --at=1e21 --tokens=D":
        "nowhere.csv: no such file",
    "design --config.seed=1": "--config.seed=1: `scaling design` reads no config here",
}  # fmt: skip


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_two(capsys, line, words):
    assert_refused(capsys, line, words)


DESIGN = {"total_flops": "1e21", "max_runs": "10", "max_flops": "3e20", "at": "3e21,3e22"}
BAD_DESIGNS = {
    "no runs": ({"max_runs": ""}, "--max_runs is missing; give the most runs"),
    "no dearest": ({"max_flops": ""}, "--max_flops is missing"),
    "no targets": ({"at": ""}, "--at is missing; give the computes to predict"),
    "half a run": ({"max_runs": "8.5"}, "--max_runs: '8.5' is not a whole number"),
    "no number": ({"total_flops": "lots"}, "--total_flops: 'lots' is not a number"),
    "targets that are none": ({"at": "3e21:1"}, "--at=3e21:1: not numbers of FLOPs"),
    "unknown quantity": ({"quantity": "d_opt"}, "--quantity=d_opt: choose one of loss, n_opt"),
    "a run above the whole": ({"max_flops": "1e22"}, "can cost more than all of --total_flops"),
    "too few runs": ({"max_runs": "3"}, "--max_runs=3 cannot determine the 5 parameters"),
    "unpaid": ({"min_flops": "2e20"}, "lower --min_flops or --max_runs"),
    "one ratio": ({"tokens_per_param": "20"}, "--tokens_per_param=20: not LOW:HIGH"),
    "ratios upside down": ({"tokens_per_param": "20:2"}, "--tokens_per_param=(20.0, 2.0)"),
    "unknown form": ({"forms": "chinchila"}, "is none of chinchilla, chinchilla_tied, kaplan"),
    "forms of no table": ({"forms": "kaplan"}, "--forms belongs to a table of runs"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), BAD_DESIGNS.values(), ids=BAD_DESIGNS.keys())
def test_a_design_that_cannot_be_says_which_flag_to_change(capsys, changes, words):
    flags = [f"--{name}={value}" for name, value in (DESIGN | changes).items() if value]
    code, _, err = call(capsys, "design", *flags)
    assert code == EXIT_BAD_INPUT and words in err and len(err.splitlines()) == 1, err


def test_design_in_rounds_and_its_plan_reads_back(capsys, tmp_path):
    import numpy as np

    from scaling.laws import api as laws

    flags = [f"--{name}={value}" for name, value in DESIGN.items()]
    code, out, err = call(capsys, "design", *flags, "--careful", f"--out={tmp_path / 'first'}")
    assert code == 0 and "starts from published laws" in out and "10 runs" in out, err
    plan = laws.read_csv(
        tmp_path / "first" / "design.csv", n_params="n_params", tokens="tokens", flops="flops"
    )
    assert len(plan) == 10 and plan.flops.sum() <= 1e21 and not plan.excluded
    np.testing.assert_allclose(plan.flops, 6 * plan.n_params * plan.tokens)
    ratio = plan.tokens / plan.n_params
    assert ratio.min() > 4.99 and ratio.max() < 100.01 and plan.flops.min() > 0.99e18
    first = json.loads((tmp_path / "first" / "design.json").read_text())
    assert sum(r["count"] for r in first["runs"]) == 10
    assert sum(r["share"] for r in first["runs"]) == pytest.approx(1)
    assert "before" not in first["expected"][0] and first["warnings"] == []

    rng = np.random.default_rng(0)
    clean = 1.82 + 478 * plan.n_params**-0.347 + 2143 * plan.tokens**-0.367
    loss = clean * np.exp(0.003 * rng.standard_normal(10))
    path = write_csv(tmp_path / "t.csv", {"N": plan.n_params, "D": plan.tokens, "loss": loss})
    code, out, err = call(
        capsys, "design", path, "--n_params=N", "--tokens=D", "--forms=chinchilla,chinchilla_tied",
        "--total_flops=3e20", "--max_runs=6", "--max_flops=1e20", "--at=1e20,3e21",
        "--quantity=n_opt", "--bootstrap=20", f"--out={tmp_path}",
    )  # fmt: skip
    assert code == 0 and "chinchilla_tied: fitted to 10 rows" in out, err
    assert "warning: --at=1e+20 is not beyond --max_flops=1e+20" in out
    content = json.loads((tmp_path / "design.json").read_text())
    assert content["forms"] == ["chinchilla", "chinchilla_tied"] and content["noise_of_a_run"] > 0
    for row in content["expected"]:
        assert row["after"] < row["after_isoflop_grid"] < row["before"]
    lines = (tmp_path / "design_runs.csv").read_text().splitlines()
    assert sum("done" in line.split(",") for line in lines) == 10
    for suffix in (".svg", ".png"):
        assert (tmp_path / f"design_runs{suffix}").stat().st_size > 1000


def test_limits_that_miss_the_expected_optimum_are_warned_of(capsys, tmp_path):
    from tests.laws.test_gain import family

    table = family()
    path = write_csv(tmp_path / "t.csv", table.columns)
    dearest = table.flops.max()
    code, out, err = call(
        capsys, "design", path, "--tokens=tokens", f"--total_flops={3 * dearest}", "--max_runs=6",
        f"--max_flops={dearest}", f"--at={10 * dearest}", "--tokens_per_param=2000:9000",
        "--bootstrap=20",
    )  # fmt: skip
    assert code == 0 and "tokens per parameter, outside 2000 to 9000" in out, err


def test_a_grid_that_beats_the_proposal_is_a_warning():
    from scaling.commands.design_runs import beaten

    rows = [{"after": 1.17, "after_isoflop_grid": 0.89}, {"after": 1.0, "after_isoflop_grid": 2.0}]
    assert "the limits keep these runs from the optimum" in beaten(rows)[0].text
    assert beaten(rows[1:]) == beaten([{"after": 1.0}]) == []


def test_a_design_as_json_holds_its_runs_and_promises(capsys):
    flags = [f"--{name}={value}" for name, value in DESIGN.items()]
    code, out, _ = call(capsys, "design", *flags, "--careful", "--json")
    content = json.loads(out)
    assert code == 0 and sum(row["count"] for row in content["runs"]) == 10
    assert [row["flops"] for row in content["expected"]] == [3e21, 3e22]
