"""Curves on disk by the design's contract, and a forecast that is sealed before its run."""

from __future__ import annotations

import csv
import json
import math
import shutil

import pytest

from scaling import cli, results
from scaling.analysis import compute, run_table
from scaling.config import load as config_lib
from scaling.study import pipeline
from scaling.sweep.execute import growth
from scaling.utils import files, precision
from scaling.utils.errors import UserError
from tests.common import ROOT

MINI = f"--config={ROOT}/configs/mini.py"
NAMES = (
    "isoflop", "frontier", "n_opt", "tokens_opt", "chinchilla", "chinchilla_contours",
    "chinchilla_predicted", "chinchilla_bootstrap", "loss_curves",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_every_curve_states_its_law_and_has_its_numbers_and_picture(mini, name):
    law = json.loads((mini / "curves" / f"{name}.json").read_text())
    for key in (
        "equation", "estimator", "parameters", "runs_used", "runs_left_out", "diagnostics",
        "range_of_validity", "held_out", "n_params_convention", "flops_convention", "confidence",
    ):  # fmt: skip
        assert key in law, key
    assert len(law["runs_used"]) == 18
    assert all(":" in line for line in law["runs_left_out"])
    with open(mini / "curves" / f"{name}.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 18
    svg = (mini / "curves" / f"{name}.svg").read_text()
    assert "<svg" in svg and "</svg>" in svg
    png = (mini / "curves" / f"{name}.png").read_bytes()
    assert png.startswith(b"\x89PNG") and len(png) > 10_000


def test_plotted_numbers_are_those_of_the_table(mini):
    rows, _ = results.read_table(mini / "runs.csv")
    by_id = {r.run_id: r for r in rows}
    with open(mini / "curves" / "isoflop.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["series"] == "run"]
        assert len(rows) == 18
        for row in rows:
            run = by_id[row["run_id"]]
            assert float(row["loss"]) == run.loss
            assert float(row["n_params"]) == run.n_params
            assert float(row["flops"]) == run.flops_exact


def test_forecast_was_sealed_before_its_run_on_the_sweep_alone(mini):
    forecast = json.loads((mini / "forecast.json").read_text())
    rows, _ = results.read_table(mini / "runs.csv")
    config = config_lib.load("configs/mini.py")
    table = run_table.sweep_table(rows, config)
    assert forecast["fitted_on"]["sha256"] == table.hash()
    assert forecast["run_id"] not in forecast["fitted_on"]["runs"]
    folder = mini / "runs" / forecast["run_id"]
    sealed = (mini / "forecast.json").stat().st_mtime_ns
    assert sealed < (folder / "config.json").stat().st_mtime_ns
    assert forecast["flops"] >= 2.9 * max(r.flops_exact for r in rows if r.role == "sweep")
    low, value, high = (forecast["predicted_loss"][k] for k in ("low", "value", "high"))
    assert low < value < high
    measured = json.loads((mini / "curves" / "frontier.json").read_text())["held_out"]
    run = next(r for r in rows if r.role == "holdout")
    assert measured["measured_loss"] == run.loss
    assert measured["relative_error"] == pytest.approx(run.loss / value - 1)


def test_a_forecast_is_never_written_again(mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    before = (workdir / "forecast.json").read_bytes()
    again = ["curves", MINI, "--config.laws.bootstrap=20", f"--workdir={workdir}"]
    assert cli.main(again) == 0
    assert (workdir / "forecast.json").read_bytes() == before


def test_fit_again_gives_the_same_files(mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    (workdir / "curves" / "inputs.json").unlink()
    for name in NAMES:
        (workdir / "curves" / f"{name}.json").unlink()
    pipeline.fit_and_write(config_lib.load("configs/mini.py"), workdir, [])
    for name in NAMES:
        for suffix in ("json", "csv", "svg"):
            ours, theirs = (w / "curves" / f"{name}.{suffix}" for w in (workdir, mini))
            assert ours.read_bytes() == theirs.read_bytes(), f"{name}.{suffix}"


def test_curves_of_a_law_that_is_refused_now_do_not_stay(mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    (workdir / "curves" / "mine.png").touch()
    config = config_lib.load("configs/mini.py", ["--config.laws.min_steps=100000"])
    written = pipeline.fit_and_write(config, workdir, [])
    left = {p.stem for p in (workdir / "curves").glob("*.json")} - {"inputs"}
    assert left == {n for n in NAMES if not n.startswith("chinchilla")}
    assert {p.stem for p in written.pictures} == left
    assert {p.stem for p in (workdir / "curves").glob("*.png")} == {*left, "mine"}
    assert any("L(N, D)    refused" in line for line in written.summary)


def test_budgets_and_laws_of_two_conventions_are_not_mixed(mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    config = config_lib.load("configs/mini.py", ["--config.laws.flops=flops_kaplan"])
    rows, _ = results.read_table(workdir / "runs.csv")
    fits = compute.fit(rows, workdir, config)
    assert fits.isoflop is None and "config.sweep.flops='exact'" in fits.refused["isoflop"]
    assert fits.chinchilla is not None and not pipeline.has_forecast(config)
    (workdir / "forecast.json").unlink()
    with pytest.raises(UserError, match=r"no held-out run: budgets are in config\.sweep\.flops"):
        pipeline.hold_out(config, workdir, [])


def test_after_success_the_same_command_does_nothing(mini, capsys):
    stamps = {p: p.stat().st_mtime_ns for p in mini.rglob("*") if p.is_file()}
    assert cli.main(["curves", MINI, f"--workdir={mini}"]) == 0
    out = capsys.readouterr().out
    assert "measured loss" in out and "frontier.png" in out
    assert {p: p.stat().st_mtime_ns for p in mini.rglob("*") if p.is_file()} == stamps


def test_no_forecast_before_the_sweep_is_complete(mini, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    (workdir / "forecast.json").unlink()
    first = results.read_table(workdir / "runs.csv")[0][0]
    shutil.rmtree(workdir / "runs" / first.run_id)
    with pytest.raises(UserError, match="1 runs of the sweep have no result"):
        pipeline.hold_out(config_lib.load("configs/mini.py"), workdir, [])
    assert not (workdir / "forecast.json").exists()


def test_refused_laws_leave_points_picture_and_reasons(mini, tmp_path):
    workdir = tmp_path / "copy"
    (workdir / "runs").mkdir(parents=True)
    shutil.copy(mini / "sweep.json", workdir)
    rows = [r for r in results.read_table(mini / "runs.csv")[0] if r.role == "sweep"]
    for budget in {r.budget for r in rows}:  # the best size becomes the smallest one
        best = min((r for r in rows if r.budget == budget), key=lambda r: r.loss)
        kept = [r for r in rows if r.budget == budget and r.n_params >= best.n_params]
        kept += [r for r in rows if r.budget == budget and r.n_params < best.n_params][-1:]
        for row in kept[:2]:
            shutil.copytree(mini / "runs" / row.run_id, workdir / "runs" / row.run_id)
    written = pipeline.fit_and_write(config_lib.load("configs/mini.py"), workdir, [])
    assert {"isoflop", "loss_curves"} <= {p.stem for p in written.pictures}
    law = files.read_json(workdir / "curves" / "isoflop.json")
    assert law["verdict"] == "refused" and "interior minimum" in law["diagnostics"]["refused"]
    for edge in law["edges"]:  # the suggested value makes a sweep that grows
        assert edge["side"] in ("low", "high") and edge["budget"] > 0
        grown = config_lib.with_values(config_lib.load("configs/mini.py"), edge["change"])
        assert "sweep.min_width" in edge["change"] or growth.compare(grown, workdir).added
    assert law["edges"] and any("at the edge" in line for line in written.summary)
    assert "run" in (workdir / "curves" / "isoflop.csv").read_text()
    with pytest.raises(UserError, match="no finished run"):
        shutil.rmtree(workdir / "runs")
        pipeline.fit_and_write(config_lib.load("configs/mini.py"), workdir, [])


def test_summary_says_what_the_files_say(mini):
    text = (mini / "summary.txt").read_text()
    forecast = files.read_json(mini / "forecast.json")
    held_out = files.read_json(mini / "curves" / "frontier.json")["held_out"]
    assert f"predicted loss {precision.of_dict(forecast['predicted_loss'])}" in text
    measured = precision.with_error(held_out["measured_loss"], held_out["measured_loss_se"])
    assert f"measured loss  {measured}" in text
    assert "nan" not in text and "backtest )" not in text
    assert math.isfinite(held_out["relative_error"])
