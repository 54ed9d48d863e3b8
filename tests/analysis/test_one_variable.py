"""L(N) and L(D) of known laws are recovered from the table, seeds are repeats, refusals leave the
points.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re

import numpy as np
import pytest

from scaling.analysis import one_variable, registry
from scaling.config import load as config_lib
from scaling.utils.errors import UserError
from tests.analysis.known import row
from tests.common import ROOT

E, K, A = 1.2, 40.0, 0.4


@pytest.fixture(scope="module")
def config():
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {"sweep.kind": "params", "laws.bootstrap": 100},
    )


def of_sizes(noise: float, seeds=(0,), sizes=(1e3, 3e3, 1e4, 3e4, 1e5, 3e5), **values):
    rng = np.random.default_rng(0)
    return [
        row(
            i * len(seeds) + seed,
            n_params=int(n),
            seed=seed,
            loss=float((E + K * n**-A) * np.exp(noise * rng.standard_normal())),
            **values,
        )
        for i, n in enumerate(sizes)
        for seed in seeds
    ]


def test_a_known_law_of_size_is_recovered(config, tmp_path):
    found = one_variable.params(of_sizes(0.0), tmp_path, config)
    law = found.curves["loss_of_n_params"].law
    assert {k: v["value"] for k, v in law["parameters"].items()} == pytest.approx(
        {"k": K, "E": E, "a": A}, rel=1e-4
    )
    assert law["equation"] == "L(N) = E + k N^-a" and law["tokens"] == 1_000_000
    assert law["predictions"][1]["n_params"] == 3e6
    assert law["predictions"][1]["loss"]["value"] == pytest.approx(E + K * 3e6**-A, rel=1e-6)
    assert any("verdict: good" in line for line in found.lines)


def test_seeds_are_repeats_of_a_point(config, tmp_path):
    rows = of_sizes(0.01, seeds=(0, 1, 2))
    found = one_variable.params(rows, tmp_path, config)
    columns = found.curves["loss_of_n_params"].picture.columns
    mean = columns["series"] == "mean"
    assert mean.sum() == 6 and set(columns["count"][mean]) == {3}
    losses = [r.loss for r in rows if r.n_params == 1000]
    at = mean & (columns["n_params"] == 1000)
    assert columns["loss"][at] == pytest.approx(np.mean(losses))
    assert columns["sd"][at] == pytest.approx(np.std(losses, ddof=1))
    assert (columns["series"] == "run").sum() == 18
    law = found.curves["loss_of_n_params"].law
    low, high = (law["parameters"]["a"][end] for end in ("low", "high"))
    assert low < A < high and high - low < 0.3
    assert not any("count twice" in w for w in law["diagnostics"]["warnings"])


def test_lengths_are_fitted_apart_by_size(config, tmp_path):
    rows = [
        row(i, n_params=n, tokens=int(d), loss=float(floor + 300 * d**-0.5))
        for i, (n, floor, d) in enumerate(
            (n, floor, d)
            for n, floor in ((1000, 2.0), (9000, 1.5))
            for d in np.geomspace(1e5, 3e6, 6)
        )
    ]
    law = one_variable.data(rows, tmp_path, config).curves["loss_of_tokens"].law
    assert law["parameters"]["N=1000"]["E"]["value"] == pytest.approx(2.0, rel=1e-3)
    assert law["parameters"]["N=9000"]["E"]["value"] == pytest.approx(1.5, rel=1e-3)


def test_many_epochs_are_said(config, tmp_path):
    rows = of_sizes(0.0, unique_tokens=100_000)
    law = one_variable.params(rows, tmp_path, config).curves["loss_of_n_params"].law
    assert any("up to 10 times" in w for w in law["diagnostics"]["warnings"])


def test_too_few_runs_leave_points_and_reason_on_disk(config, tmp_path):
    rows = [*of_sizes(0.0)[:3], row(99, status="diverged", reason="loss 40", loss=None)]
    found = one_variable.params(rows, tmp_path, config)
    (picture,) = registry.write(found, tmp_path, config)
    law = json.loads((tmp_path / "curves" / "loss_of_n_params.json").read_text())
    assert law["verdict"] == "refused" and "3 usable rows" in law["diagnostics"]["refused"]
    assert law["runs_left_out"] == ["run-99: diverged, loss 40"]
    assert any("refused: power_offset: 3 usable rows" in line for line in found.lines)
    with (tmp_path / "curves" / "loss_of_n_params.csv").open() as file:
        assert [r["series"] for r in csv.DictReader(file)].count("run") == 3
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_no_finished_run_is_refused_with_reasons(config, tmp_path):
    with pytest.raises(UserError, match=r"no finished run.*run-1: failed, out of memory"):
        one_variable.params([row(1, status="failed", reason="out of memory")], tmp_path, config)


def test_a_curve_states_its_recipe_below_the_picture_too(config, tmp_path):
    config = config_lib.with_values(config, {"optim.name": "muon", "optim.z_loss": 1e-4})
    registry.write(one_variable.params(of_sizes(0.01), tmp_path, config), tmp_path, config)
    law = json.loads((tmp_path / "curves" / "loss_of_n_params.json").read_text())
    for key in (
        "equation", "estimator", "parameters", "runs_used", "runs_left_out", "diagnostics",
        "range_of_validity", "held_out", "n_params_convention", "flops_convention", "confidence",
    ):  # fmt: skip
        assert key in law, key
    assert law["recipe"]["lr"] == [0.01] and law["recipe"]["warmup_fraction"] == [0.05]
    assert law["recipe"]["head"] == "tied to the embedding"
    assert law["recipe"]["documents"] == "attention crosses documents within a window"
    assert law["recipe"]["decayed"] == "all but norm scales and LRU eigenvalues"
    svg = (tmp_path / "curves" / "loss_of_n_params.svg").read_text()
    assert "attention crosses documents within a window" in " ".join(
        re.findall("<!-- (.*?) -->", svg)
    )
    assert "1,024 tokens per step" in svg and "muon, lr 0.01, z loss 0.0001;" in svg


def test_axes_name_what_the_field_counts(config, tmp_path):
    vision = config_lib.load("configs/vision_quickstart.py", ["--config.sweep.kind=data"])
    rows = [dataclasses.replace(r, tokens=(1 + i) * 10_000) for i, r in enumerate(of_sizes(0.01))]
    registry.write(one_variable.data(rows, tmp_path, vision), tmp_path, vision)
    svg = (tmp_path / "curves" / "loss_of_tokens.svg").read_text()
    assert "training data D, images" in svg and "held-out loss, nats/image" in svg
