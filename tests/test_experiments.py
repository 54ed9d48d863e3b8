"""Every experiment in miniature: it trains, fits or refuses, and leaves its curve."""

from __future__ import annotations

import csv
import json

import pytest

from experiments import algorithms, coordinates, design, lr_study, merge, publish, transfer
from scaling import cli
from tests.analysis import known
from tests.common import ROOT

MINI = f"--config={ROOT}/configs/mini.py"


# the smallest rung of configs/mini.py, so that all tests share its compiled programs
SMALL = (
    "--config.model.width=8",
    "--config.model.depth=1",
    "--config.model.head_dim=4",
    "--config.model.mlp_width=32",
)


def law(workdir, name):
    return json.loads((workdir / "curves" / f"{name}.json").read_text())


@pytest.mark.slow  # grid, random and hyper go through the same script
def test_params_experiment(tmp_path, capsys):
    out = tmp_path / "out"
    code = publish.main(
        [
            "params",
            MINI,
            f"--workdir={tmp_path}",
            f"--out={out}",
            "--config.sweep.kind=params",
            "--config.sweep.tokens=(40000,)",
            "--config.sweep.rungs=5",
            "--config.sweep.seeds=(0, 1)",
        ]
    )
    said = capsys.readouterr().out
    assert code == 0 and "verdict" in said and "has no held-out run" in said
    found = law(tmp_path, "loss_of_n_params")
    assert len(found["runs_used"]) >= 8 and found["parameters"]["a"]["value"] > 0
    assert found["recipe"]["seeds"] == [0, 1]
    with (out / "loss_of_n_params.csv").open() as file:
        means = [row for row in csv.DictReader(file) if row["series"] == "mean"]
    assert {row["count"] for row in means} == {"2.0"} and all(float(row["sd"]) > 0 for row in means)
    assert (out / "loss_of_n_params.svg").is_file()
    assert "--config.sweep.kind=params" in (out / "command.txt").read_text()


@pytest.mark.slow
def test_data_experiment(tmp_path):
    code = publish.main(
        [
            "data",
            MINI,
            f"--workdir={tmp_path}",
            *SMALL,
            "--config.sweep.kind=data",
            "--config.sweep.tokens=(8192, 16384, 32768, 65536, 131072)",
        ]
    )
    assert code == 0
    found = law(tmp_path, "loss_of_tokens")
    assert found["range_of_validity"] == {"tokens": [8192, 131072]}
    with (tmp_path / "curves" / "loss_of_tokens.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["series"] == "run"]
    assert max(losses) > min(losses) + 0.2


def test_grid_experiment(tmp_path, capsys):
    code = publish.main(
        [
            "grid",
            MINI,
            f"--workdir={tmp_path}",
            *SMALL,
            "--config.sweep.kind=grid",
            "--config.train.tokens=8192",
            "--config.sweep.grid_keys=('optim.lr', 'optim.beta2')",
            "--config.sweep.grid_values=((1e-3, 1e-2, 1e-1), (0.9, 0.99))",
            "--config.sweep.seeds=(0, 1)",
        ]
    )
    assert code == 0 and "6 settings of optim.beta2, optim.lr" in capsys.readouterr().out
    found = law(tmp_path, "swept")
    assert found["best"]["seeds"] == 2 and found["noise_of_a_seed"] > 0


@pytest.mark.slow
def test_epochs_experiment(tmp_path, capsys):
    code = publish.main(
        [
            "epochs",
            MINI,
            f"--workdir={tmp_path}",
            *SMALL,
            "--config.sweep.kind=data",
            "--config.sweep.unique_tokens=(2048, 65536)",
            "--config.sweep.tokens=(8192, 16384, 32768)",
        ]
    )
    assert code == 0
    found = law(tmp_path, "epochs")
    assert found["range_of_validity"]["unique_tokens"] == [2048, 65536]
    assert found["range_of_validity"]["epochs"][1] == 16
    assert len(found["runs_used"]) == 6 and "L(D, U)" in capsys.readouterr().out


@pytest.mark.slow  # of kinds of sweeps: tests/kinds; of the scripts: the others here
def test_ladder_experiment(tmp_path):
    code = publish.main(
        [
            "ladder",
            MINI,
            f"--workdir={tmp_path}",
            "--config.sweep.kind=ladder",
            "--config.sweep.rungs=4",
            "--config.sweep.tokens=(8192, 16384, 32768)",
        ]
    )
    assert code == 0
    found = law(tmp_path, "ladder")
    assert len(found["runs_used"]) == 9 and found["n_params_convention"] == "n_params"
    assert (tmp_path / "curves" / "ladder.png").is_file()


def test_random_and_hyper_experiments(tmp_path):
    small = [MINI, *SMALL, "--config.train.tokens=8192"]
    ranges = "--config.sweep.random_ranges=(('optim.lr', 'log', 1e-3, 1e-1),)"
    code = publish.main(
        ["random", *small, f"--workdir={tmp_path / 'r'}", "--config.sweep.kind=random",
         "--config.sweep.random_count=4", ranges]
    )  # fmt: skip
    assert code == 0 and len(law(tmp_path / "r", "swept")["parameters"]["lr"]["best"]) == 4
    code = publish.main(
        ["hyper", *small, f"--workdir={tmp_path / 'h'}", "--config.sweep.kind=hyper",
         "--config.sweep.rungs=1",
         "--config.sweep.tokens=(8192,)", "--config.sweep.lr_values=(1e-3, 1e-2, 1e-1)"]
    )  # fmt: skip
    found = law(tmp_path / "h", "lr_optimum")
    assert code == 0 and len(found["groups"]) == 1
    assert found["groups"][0]["rows"] == 3


@pytest.mark.slow
def test_design_experiment(tmp_path, capsys):
    code = design.main(
        [
            MINI,
            f"--workdir={tmp_path}",
            f"--out={tmp_path / 'out'}",
            "--rounds=1",
            "--runs=4",
            "--round_flops=4e9",
            "--max_flops=2e9",
            "--at=1e10",
            "--config.sweep.kind=ladder",
            "--config.sweep.rungs=4",
            "--config.sweep.tokens=(8192, 16384, 32768)",
        ]
    )
    assert code == 0 and "round 1:" in capsys.readouterr().out
    found = law(tmp_path, "design_rounds")
    assert (tmp_path / "out" / "design_rounds.csv").is_file()
    assert [h["round"] for h in found["rounds"]] == [0, 1]
    assert found["rounds"][1]["runs"] > found["rounds"][0]["runs"] == 9


def test_an_experiment_of_another_kind_and_a_forecast_without_budgets_are_refused(tmp_path, capsys):
    assert publish.main(["params", MINI, f"--workdir={tmp_path}"]) == 2
    assert "kind='compute': this experiment needs params" in capsys.readouterr().err
    code = cli.main(["holdout", MINI, f"--workdir={tmp_path}", "--config.sweep.kind=params"])
    assert code == 2
    assert "config.sweep.kind='params' has no held-out run" in capsys.readouterr().err


@pytest.mark.slow
def test_gain_of_an_algorithm(tmp_path, capsys):
    out = tmp_path / "out"
    code = algorithms.main(
        ["--question=feature", f"--workdir={tmp_path}", f"--out={out}", "--bootstrap=20",
         "--config.data.seq_len=32", "--config.train.steps_per_dispatch=16",
         "--config.train.log_every=4",
         "--config.eval.tokens=8192", "--config.sweep.rungs=3", "--config.sweep.width_ratio=1.6",
         "--config.sweep.tokens=(4096, 8192, 16384)", "--config.sweep.lr_factors=(1.0,)"]
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    for family in ("relu2", "swiglu"):
        with (out / f"{family}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 9 and not any(row["lr_at_edge"] for row in rows)
        for row in rows:  # C = 6 N D, exactly
            n_params = float(row["flops_exact"]) / 6 / float(row["tokens"])
            assert float(row["n_params_of_flops"]) == pytest.approx(n_params)
    with (out / "gain_swiglu" / "gain.csv").open() as file:
        curve = list(csv.DictReader(file))
    assert len(curve) >= 3 and float(curve[0]["flops"]) < float(curve[-1]["flops"])
    assert (out / "gain.svg").is_file() and "--question=feature" in (
        out / "command.txt"
    ).read_text()


def test_the_best_rate_of_a_size_and_length_counts_and_its_end_is_said():
    rates = {0.01: (3.0, 2.9, 3.1), 0.03: (2.8, 2.95, 3.0), 0.1: (2.9, 3.2, 2.7)}
    rows = [
        known.row(10 * i + k, n_params=1000 * (1 + k), lr=lr, loss=loss)
        for i, (lr, losses) in enumerate(rates.items())
        for k, loss in enumerate(losses)
    ]
    rows.append(known.row(99, n_params=1000, lr=0.3, status="diverged", loss=None))
    best, ends = algorithms.best_of_rates(rows)
    assert [(r.lr, r.loss) for r in best] == [(0.03, 2.8), (0.01, 2.9), (0.1, 2.7)]
    assert ends == ["", "lowest", "highest"]


def test_lr_study(tmp_path, capsys):
    code = lr_study.main(
        [
            MINI,
            f"--workdir={tmp_path / 'w'}",
            f"--out={tmp_path / 'out'}",
            "--widths", "8", "16",
            "--budgets", "1e9",
            "--rates", "1e-3", "1e-2", "1e-1",
        ]
    )  # fmt: skip
    assert code == 0 and "lr*" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "lr_study.json").read_text())
    assert len(found["optima"]) == 2
    assert (tmp_path / "out" / "lr_study.png").is_file()


def test_the_committed_rule_is_what_the_committed_table_gives():
    """The rule in configs/python_text.py, the study's JSON and its CSV say the same."""
    from types import SimpleNamespace

    from scaling.config import load as config_lib

    with (ROOT / "experiments" / "lr_study" / "lr_study.csv").open() as file:
        rows = [
            SimpleNamespace(
                **{k: float(row[k]) for k in ("budget", "lr", "loss")},
                n_params=int(row["n_params"]),
            )
            for row in csv.DictReader(file)
        ]
    rule = lr_study.analyse(rows)["rule"]
    committed = json.loads((ROOT / "experiments" / "lr_study" / "lr_study.json").read_text())[
        "rule"
    ]
    assert abs(rule["lr_coefficient"] / committed["lr_coefficient"] - 1) < 1e-6
    sweep = config_lib.load(str(ROOT / "configs" / "python_text.py")).sweep
    for n_params in rule["n_params"]:
        ours = sweep.lr_coefficient * n_params**-sweep.lr_n_exponent
        theirs = rule["lr_coefficient"] * n_params ** -rule["lr_n_exponent"]
        assert abs(ours / theirs - 1) < 0.05


@pytest.mark.slow
def test_merge_experiment(tmp_path, capsys):
    flags = [
        MINI,
        f"--workdir={tmp_path}",
        f"--out={tmp_path}/out",
        *SMALL,
        "--config.sweep.kind=grid",
        "--config.optim.schedule=wsd",
        "--config.optim.warmup_tokens=1024",
        "--config.optim.merge_checkpoints=3",
        "--config.sweep.seeds=(0, 1)",
        "--config.sweep.grid_keys=('train.tokens', 'optim.cooldown')",
    ]
    code = merge.main([*flags, "--config.sweep.grid_values=((8192, 16384), ('merge',))"])
    assert code == 2 and "sweep it over 'decay' and 'merge'" in capsys.readouterr().err
    assert (
        merge.main([*flags, "--config.sweep.grid_values=((8192, 16384), ('decay', 'merge'))"]) == 0
    )
    with (tmp_path / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    of = {(r["tokens"], r["seed"], r["schedule"]): r for r in runs}
    with (tmp_path / "out" / "merge_gap.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["tokens"], r["way"], r["seeds"]) for r in rows] == [
        ("8192", "merge 3 uniform", "2"),
        ("16384", "merge 3 uniform", "2"),
    ]
    for row in rows:
        pairs = [
            [float(of[row["tokens"], s, k]["loss"]) for k in ("wsd-merge", "wsd")] for s in "01"
        ]
        gaps = [merged - decayed for merged, decayed in pairs]
        assert float(row["gap"]) == pytest.approx(sum(gaps) / 2)
        assert float(row["gap_se"]) == pytest.approx(abs(gaps[0] - gaps[1]) / 2)
    spent = {float(r["flops_spent"]) for r in runs if r["schedule"] == "wsd-merge" and r["trunk"]}
    assert spent == {0.0}
    assert (tmp_path / "out" / "merge_gap.svg").is_file()


@pytest.mark.slow
def test_transfer_experiment(tmp_path):
    flags = ["--names", "mup", "--widths", "32", "64", "--seeds", "0", "--steps", "10"]
    assert transfer.main([MINI, f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}", *flags]) == 0
    (found,) = json.loads((tmp_path / "out" / "transfer.json").read_text())["results"]
    assert [o["width"] for o in found["optima"]] == [32, 64]
    with (tmp_path / "out" / "transfer.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 and {row["width"] for row in rows} == {"32", "64"}
    assert (tmp_path / "out" / "transfer.svg").is_file()


@pytest.mark.slow
def test_coordinates_experiment(tmp_path):
    flags = ["--widths", "16", "32", "--depths", "1", "2", "--seeds", "1"]
    assert coordinates.main([MINI, f"--out={tmp_path}", *flags]) == 0
    with (tmp_path / "coordinates.csv").open() as file:
        rows = list(csv.DictReader(file))
    cases = {(r["kind"], r["optimizer"], r["parametrization"], r["side"]) for r in rows}
    assert cases == set(coordinates.CASES)
