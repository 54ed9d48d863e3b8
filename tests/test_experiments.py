"""Every experiment in miniature: it trains, fits or refuses, and leaves its curve."""

from __future__ import annotations

import csv
import json

from experiments import data, lr_study, params
from tests.conftest import ROOT

MINI = f"--config={ROOT}/configs/mini.py"


def test_params_experiment(tmp_path, capsys):
    code = params.main(
        [
            MINI,
            f"--workdir={tmp_path}",
            "--config.sweep.kind=params",
            "--config.sweep.tokens=(40000,)",
        ]
    )
    assert code == 0 and "verdict" in capsys.readouterr().out
    law = json.loads((tmp_path / "curves" / "loss_of_n_params.json").read_text())
    assert len(law["runs_used"]) >= 4 and law["parameters"]["a"]["value"] > 0
    assert (tmp_path / "curves" / "loss_of_n_params.svg").is_file()


def test_data_experiment(tmp_path):
    code = data.main(
        [
            MINI,
            f"--workdir={tmp_path}",
            "--config.sweep.kind=data",
            "--config.model.width=16",
            "--config.model.mlp_width=64",
            "--config.sweep.tokens=(8192, 16384, 32768, 65536, 131072)",
        ]
    )
    assert code == 0
    law = json.loads((tmp_path / "curves" / "loss_of_tokens.json").read_text())
    assert law["range_of_validity"] == {"tokens": [8192, 131072]}
    with (tmp_path / "curves" / "loss_of_tokens.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[0] > losses[-1] + 0.2


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
    """The rule in configs/quickstart.py, the study's JSON and its CSV say the same."""
    from types import SimpleNamespace

    from scaling import config as config_lib

    with (ROOT / "experiments" / "lr_study" / "lr_study.csv").open() as file:
        rows = [
            SimpleNamespace(**{k: float(row[k]) for k in ("budget", "lr", "loss")}, n_params=int(row["n_params"]))
            for row in csv.DictReader(file)
        ]  # fmt: skip
    rule = lr_study.analyse(rows)["rule"]
    committed = json.loads((ROOT / "experiments" / "lr_study" / "lr_study.json").read_text())[
        "rule"
    ]
    assert abs(rule["lr_coefficient"] / committed["lr_coefficient"] - 1) < 1e-6
    sweep = config_lib.load(str(ROOT / "configs" / "quickstart.py")).sweep
    for n_params in rule["n_params"]:
        ours = sweep.lr_coefficient * n_params**-sweep.lr_n_exponent
        theirs = rule["lr_coefficient"] * n_params ** -rule["lr_n_exponent"]
        assert abs(ours / theirs - 1) < 0.05
