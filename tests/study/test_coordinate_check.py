"""The coordinate check: what grows under the standard parametrisation and not under the others."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from scaling import cli
from scaling.config import load as config_lib
from scaling.study import coordinate_check
from scaling.study.coordinate_check import Check, Slope
from tests.common import TINY, flags

BASE = {**TINY, "model.base_width": 16, "data.seq_len": 16, "train.batch_size": 8, "optim.lr": 1e-2}


DIVERGED = {
    "side": np.array(["width", "width"]), "value": np.array([32, 64]), "seed": np.array([0, 1]),
    "layer": np.array(["block", "block"]), "size": np.array([1.0, np.nan]),
    "update": np.array([1.0, 1.0]),
}  # fmt: skip


def measured(parametrization: str, **sides):
    """Return (slope of each layer's size, the check) after ten steps of two seeds."""
    config = config_lib.load("mini", flags({**BASE, "model.parametrization": parametrization}))
    sides = {"widths": (), "depths": ()} | sides
    found = coordinate_check.check(config, steps=10, seeds=2, **sides)
    return {s.layer: s.value for s in found.slopes if s.quantity == "size"}, found


def test_wider_models_blow_up_in_sp_and_not_in_mup():
    standard, check = measured("sp", widths=(16, 48))
    mup, _ = measured("mup", widths=(16, 48))
    assert standard["block"] > 0.6 and "grows as width^" in check.verdict("width")
    assert abs(mup["block"]) < 0.25 and abs(mup["outputs"]) < 0.25


@pytest.mark.slow
def test_deeper_models_blow_up_in_sp_and_not_in_completep():
    standard, _ = measured("sp", depths=(2, 8))
    deep, check = measured("completep", depths=(2, 8))
    assert standard["block"] > 0.3 and abs(deep["block"]) < 0.3
    assert check.verdict("depth") == "depth: no size grows"


@pytest.mark.parametrize(
    ("interval", "trend"),
    [
        ((0.15, 0.11, 0.19), "grows"),
        ((-0.2, -0.3, -0.15), "falls"),
        ((0.05, -0.1, 0.15), "flat"),
        ((0.05, -0.1, 0.25), "unclear"),
        ((math.nan, math.nan, math.nan), "diverged"),
    ],
)
def test_trends_and_verdicts(interval, trend):
    slope = Slope("width", "block", "size", *interval)
    assert slope.trend == trend
    verdict = Check(DIVERGED, [slope]).verdict("width")
    assert ("diverged at width 64, seed 1" in verdict) == (trend == "diverged")
    assert ("grows as" in verdict, "unclear" in verdict) == (trend == "grows", trend == "unclear")


def test_two_points_have_no_interval():
    value, low, high = coordinate_check._line(np.log([8.0, 16.0]), np.array([1.0, 1.2]))
    assert value == pytest.approx(np.log(1.2) / np.log(2)) and (low, high) == (-np.inf, np.inf)


def test_the_command_writes_slopes_and_a_picture(tmp_path, capsys):
    argv = ["check", "--config=mini", "--widths=16,32", "--steps=2", "--seeds=2", "--json"]
    assert cli.main([*argv, f"--out={tmp_path}"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "coordinates.json").read_text())
    assert {row["trend"] for row in shown["slopes"]} <= {"grows", "falls", "flat", "unclear"}
    assert np.genfromtxt(tmp_path / "coordinates.csv", delimiter=",").shape[1] == 6
    assert (tmp_path / "coordinates.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--widths=16"], "--widths: name two different sizes at least"),
        (["--widths=16,x"], "--widths=16,x:"),
        (["--widths=,"], "--widths=,:"),
        (["--widths=16,32", "--out=/proc/x"], "/proc/x"),
        (["--widths=16,21"], "config.model.width=21 is not a multiple of config.model.head_dim"),
    ],
)
def test_bad_input_is_one_line(flags, line, capsys):
    assert cli.main(["check", "--config=mini", *flags]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count("\n") == 1
