"""Pictures: all of a law are made, their CSV holds what the fit says, and drawing needs nothing
else.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import struct
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws.api import FORMS
from scaling.laws.bootstrap import interval
from scaling.laws.multistart import log_prediction
from scaling.laws.table import make_table
from scaling.report import pictures, style
from scaling.report.picture import part, stacked
from scaling.utils import files
from tests.laws.test_fit import TRUTH as KNOWN

TRUTH = KNOWN | {
    "data_constrained": (
        np.log(400.0), np.log(900.0), np.log(1.7), np.log(15.0), np.log(5.0), 0.35, 0.37,
    ),
}  # fmt: skip
SURFACES = {"contours", "predicted", "residuals", "bootstrap"}
MADE = {
    name: SURFACES - {"contours"}
    for name in ("over_training", "data_constrained", "data_constrained_one_size")
}
MADE |= dict.fromkeys(("chinchilla", "chinchilla_tied", "kaplan"), SURFACES)
RESAMPLES = 20
ROUNDING = 1e-12  # relative to the drawn value: float64 powers and sums of a few terms


def law_and_table(name: str):
    """A law known by construction with refits about it, and the noisy table that it belongs to.

    Nothing is fitted, so that the pictures are tested and not the solver, in milliseconds.
    """
    form, rng = FORMS[name], np.random.default_rng(0)
    n = rng.uniform(np.log(1e6), np.log(1e9), 30)
    d = n + rng.uniform(np.log(3), np.log(300), 30)
    columns = {
        "n_params": np.exp(n), "tokens": np.exp(d), "flops": 6 * np.exp(n + d),
        "tokens_per_param": np.exp(d - n), "unique_tokens": np.exp(d - rng.uniform(0, 3, 30)),
    }  # fmt: skip
    if form.inputs == ("x",):
        columns = {"x": np.geomspace(1e3, 1e8, 30)}
    if name == "loss_to_error":
        columns = {"loss": np.linspace(2.2, 5.0, 30)}
    logs_NF = np.log(np.stack([columns[c] for c in form.inputs], axis=1))
    params_P = np.array(TRUTH[name])
    residuals = 0.003 * rng.standard_normal(30)
    columns[form.target] = np.exp(log_prediction(form, params_P[None], logs_NF)[0] + residuals)
    draws_BP = params_P * (1 + 0.01 * rng.standard_normal((RESAMPLES, len(params_P))))
    natural = form.natural(params_P[None])[0]
    spread = form.natural(draws_BP)
    intervals = {p: interval(natural[i], spread[:, i], 0.9) for i, p in enumerate(form.parameters)}
    if {"alpha", "beta"} <= set(intervals):
        alpha, beta = (spread[:, form.parameters.index(p)] for p in ("alpha", "beta"))
        intervals["a"] = interval(0.5, beta / (alpha + beta), 0.9)
    law = laws.Fit(
        form=form,
        values=dict(zip(form.parameters, natural.tolist(), strict=True)),
        intervals=intervals,
        objective=0.0, described="", delta=1.0, reached=1.0, converged=np.ones(1, bool),
        n_rows=30, n_blocks=30,
        n_free=len(params_P), residuals=residuals, spread=0.003, share_N=np.ones(30),
            params_P=params_P,
        draws_BP=draws_BP, hessian_se={}, other_minima=(), warnings=(), verdict="good",
        confidence=0.9,
    )  # fmt: skip
    return law, make_table(**columns)


def read_back(content: bytes):
    """The columns of a CSV: numbers where all cells are, else text."""
    reader = csv.DictReader(io.StringIO(content.decode()))
    rows = list(reader)
    columns = {}
    for name in reader.fieldnames:
        cells = [row[name] for row in rows]
        try:
            columns[name] = np.array([float(c) for c in cells])
        except ValueError:
            columns[name] = np.array(cells)
    return columns


def check_files(picture):
    """SVG and PNG are whole, and the CSV alone gives the same picture to the byte."""
    svg, png = style.render(lambda: picture.draw(picture.columns))
    assert ET.fromstring(svg).tag.endswith("svg")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert 500 < width < 2000 and 300 < height < 1500
    columns = read_back(files.csv_bytes(picture.columns))
    assert style.render(lambda: picture.draw(columns))[0] == svg


@pytest.mark.parametrize("name", TRUTH)
def test_every_form_has_its_pictures_and_they_hold_what_the_law_says(name):
    law, table = law_and_table(name)
    found = pictures.for_law(law, table)
    assert set(found) == MADE.get(name, {"curve", "residuals", "bootstrap"})
    inputs = [table[c] for c in law.form.inputs]
    runs = part(found["residuals"].columns, "run")
    np.testing.assert_array_equal(runs["log_residual"], law.residuals)
    np.testing.assert_allclose(runs["predicted"], law.predict(*inputs))
    np.testing.assert_array_equal(runs[law.form.target], table[law.form.target])
    refits = part(found["bootstrap"].columns, "refit")
    for i, parameter in enumerate(law.form.parameters):
        np.testing.assert_array_equal(refits[parameter], law.draws[:, i])
    if "contours" in found:
        surface = part(found["contours"].columns, "surface")
        expected = law.predict(surface["n_params"], surface["tokens"])
        np.testing.assert_allclose(surface["loss"], expected, rtol=ROUNDING)
        best = part(found["contours"].columns, "frontier")
        n_opt, tokens_opt = law.optimum(best["flops"][9])
        assert best["n_params"][9] == pytest.approx(n_opt.value, rel=0.02)
        assert best["tokens_low"][9] == pytest.approx(tokens_opt.low, rel=0.02)
    if "curve" in found:
        drawn, target = part(found["curve"].columns, "law"), law.form.target
        x = drawn[law.form.inputs[0]]
        np.testing.assert_allclose(drawn[target], law.predict(x), rtol=ROUNDING)
        run, mean = law.prediction_interval(x[7]), law.mean_interval(x[7])
        assert drawn["run_high"][7] == pytest.approx(run.high)
        assert drawn["low"][7] == pytest.approx(mean.low)
        assert np.isfinite(drawn["low"]).all() and np.isfinite(drawn["run_high"]).all()
    if "predicted" in found:
        np.testing.assert_array_equal(found["predicted"].columns["measured"], table.loss)


@pytest.mark.parametrize("name", ["chinchilla", "data_constrained", "power_offset"])
def test_pictures_are_drawn_from_their_csv_alone(name):
    for picture in pictures.for_law(*law_and_table(name)).values():
        check_files(picture)


def test_refits_hundreds_of_decades_off_do_not_break_the_axes():
    law, _ = law_and_table("power_offset")
    draws_BP = law.draws_BP.copy()
    draws_BP[:2, 0], draws_BP[2:4, 0] = 700.0, -700.0  # log k
    wild = dataclasses.replace(law, draws_BP=draws_BP)
    svg, _ = style.render(
        lambda: pictures.bootstrap.picture(wild).draw(pictures.bootstrap.picture(wild).columns)
    )
    assert b"4 refits outside" in svg


def test_a_caption_stands_below_the_figure_and_leaves_its_legend(tmp_path):
    law, table = law_and_table("chinchilla")
    picture = pictures.surface.picture(law, table)
    plain, told = (
        picture.write(tmp_path / n, c) for n, c in (("plain", ""), ("told", "lr 0.01; " * 40))
    )
    (wide, high), (wider, higher) = (
        struct.unpack(">II", path.read_bytes()[16:24]) for path in (plain, told)
    )
    assert wide == wider and high < higher < 1.3 * high
    assert "lr 0.01" in told.with_suffix(".svg").read_text()


def test_seeds_are_bars_on_an_isoflop_profile():
    table = isoflop_table()
    twice = table.rows(np.repeat(np.arange(len(table)), 2))
    twice = twice.with_columns(loss=twice.loss * np.where(np.arange(len(twice)) % 2, 1.01, 0.99))
    columns = pictures.isoflop.profiles(laws.fit_isoflop(twice, bootstrap=2), twice).columns
    seeds = part(columns, "seeds")
    assert len(seeds["loss"]) == len(table) and set(seeds["count"]) == {2}
    np.testing.assert_allclose(seeds["sd"] / seeds["loss"], 0.02 / np.sqrt(2))
    once = pictures.isoflop.profiles(laws.fit_isoflop(table, bootstrap=2), table).columns
    assert "sd" not in once


def test_refits_at_infinity_are_left_out_of_the_axes_and_counted():
    law, table = law_and_table("data_constrained")
    draws_BP = law.draws_BP.copy()
    draws_BP[:3, 3] = np.inf  # R_D, as on tables without enough repetition
    draws_BP[3] = np.nan
    draws_BP[4, 5] = 1e9
    law = dataclasses.replace(law, draws_BP=draws_BP)
    found = pictures.for_law(law, table)
    refits = part(found["bootstrap"].columns, "refit")
    assert np.isinf(refits["R_D"]).sum() == 3
    svg, _ = style.render(lambda: found["bootstrap"].draw(found["bootstrap"].columns))
    assert b"3 at infinity" in svg and b"1 refits failed" in svg
    for picture in found.values():
        check_files(picture)


def test_without_refits_there_is_no_cloud_and_no_band():
    for name in ("chinchilla", "power_offset"):
        law, table = law_and_table(name)
        law = dataclasses.replace(law, draws_BP=law.draws_BP[:0])
        found = pictures.for_law(law, table)
        assert "bootstrap" not in found
        for picture in found.values():
            check_files(picture)


def test_structure_in_the_residuals_is_drawn_as_found():
    law, table = law_and_table("chinchilla")
    x = np.log(table.n_params)
    bent = 0.02 * ((x - x.mean()) ** 2 / x.var() - 1) + law.residuals
    columns = pictures.for_law(dataclasses.replace(law, residuals=bent), table)["residuals"].columns
    trend = part(columns, "trend against n_params")
    assert trend["chance"][0] < 1e-3
    assert trend["log_residual"][0] > 0.01 > 0 > trend["log_residual"].min()


def isoflop_table():
    rng, rows = np.random.default_rng(0), []
    for budget in (1e17, 1e18, 1e19):
        for n in np.geomspace(0.15, 6, 7) * (budget / 6 / 20) ** 0.5:
            d = budget / 6 / n
            noise = np.exp(0.002 * rng.standard_normal())
            rows.append((n, d, budget, (1.7 + 400 * n**-0.35 + 900 * d**-0.37) * noise))
    n, d, budget, loss = np.array(rows).T
    return make_table(n_params=n, tokens=d, flops=budget, budget=budget, loss=loss)


@pytest.mark.parametrize("method", ["parabola", "akima"])
def test_isoflop_profiles_and_laws(method):
    table = isoflop_table()
    law = laws.fit_isoflop(table, method=method, bootstrap=RESAMPLES)
    found = pictures.for_law(law, table)
    assert set(found) == {"profiles", "laws"}
    profile = part(found["profiles"].columns, "profile")
    assert np.isfinite(profile["loss"]).all() and len(np.unique(profile["budget"])) == 3
    best = part(found["laws"].columns, "minimum")
    assert best["n_params"].tolist() == [p.n_opt.value for p in law.profiles]
    drawn = part(found["laws"].columns, "law")
    expected = law.tokens_opt.predict(drawn["budget"])
    np.testing.assert_allclose(drawn["tokens"], expected, rtol=ROUNDING)
    for picture in found.values():
        check_files(picture)


def test_combined_forecast_names_its_folds_and_members():
    fits = {name: law_and_table(name)[0] for name in ("chinchilla", "chinchilla_tied")}
    table = law_and_table("chinchilla")[1]
    points = [(2e9, 4e10), (4e9, 8e10)]
    law = laws.Combined(
        values=np.array([2.1, 2.0]),
        intervals=(interval(2.1, np.array([2.0, 2.2]), 0.9), interval(2.0, np.ones(1), 0.9)),
        fits=fits,
        weights={"chinchilla": 0.3, "chinchilla_tied": 0.7},
        errors={"chinchilla": [0.01, 0.02], "chinchilla_tied": [0.005, 0.01]},
        backtest=(0.15, 0.35),
        notes=(),
    )
    found = pictures.for_law(law, table, points)
    assert set(found) == {"backtest", "forecast"}
    errors = found["backtest"].columns
    for name, expected in law.errors.items():
        assert errors["rms_log_error"][errors["form"] == name].tolist() == expected
        assert errors["held_back"][errors["form"] == name].tolist() == list(law.backtest)
    expected = found["forecast"].columns
    assert len(expected["loss"]) == 2 * (len(law.fits) + 1)
    combined = expected["form"] == "combined"
    assert expected["loss"][combined].tolist() == law.values.tolist()
    assert expected["low"][combined][0] == 2.0 and np.isnan(expected["low"][combined][1])
    tied = law.fits["chinchilla_tied"].prediction_interval(*points[0])
    assert expected["high"][expected["form"] == "chinchilla_tied"][0] == tied.high
    for picture in found.values():
        check_files(picture)


@pytest.mark.parametrize("with_done", [False, True])
def test_a_proposal_is_drawn_with_what_is_allowed_done_and_expected(with_done):
    from scaling.report import design

    belief = laws.Prior(FORMS["chinchilla"], np.array([TRUTH["chinchilla"]]))
    targets = [laws.Target(1e21), laws.Target(1e22)]
    runs = [
        {"n_params": 1e8, "tokens": 1e9, "flops": 6e17, "count": 9, "share": 0.2},
        {"n_params": 1.1e8, "tokens": 1e9, "flops": 6.6e17, "count": 2, "share": 0.1},
        {"n_params": 1e9, "tokens": 2e10, "flops": 1.2e20, "count": 1, "share": 0.7},
    ]
    limits = {"min_flops": 1e17, "max_flops": 3e20, "tokens_per_param": (5.0, 100.0)}
    done = law_and_table("chinchilla")[1] if with_done else None
    picture = design.picture(runs, [belief], targets, limits, done=done)
    assert part(picture.columns, "proposed")["count"].tolist() == [9, 2, 1]
    assert len(part(picture.columns, "done")["tokens"]) == (30 if with_done else 0)
    n_opt = (0.35 * 400 / (0.37 * 900)) ** (1 / 0.72) * (1e22 / 6) ** (0.37 / 0.72)
    star = part(picture.columns, "target")
    assert star["n_params"][1] == pytest.approx(n_opt) == star["n_params_low"][1]
    corners = part(picture.columns, "allowed")
    np.testing.assert_allclose(6 * corners["n_params"] * corners["tokens"], corners["flops"])
    axes = picture.draw(picture.columns).axes[0]
    assert {"9 x", "2 x"} <= {t.get_text() for t in axes.texts}
    assert axes.get_title().startswith("12 runs")
    check_files(picture)


def test_series_below_one_another():
    columns = stacked({"run": {"run_id": ["a", "b"], "x": [1, 2]}, "law": {"x": [3.0], "y": 4.0}})
    assert columns["series"].tolist() == ["run", "run", "law"]
    assert columns["run_id"].tolist() == ["a", "b", ""]
    assert columns["x"].tolist() == [1, 2, 3] and np.isnan(columns["y"][:2]).all()
    assert part(columns, "law")["y"].tolist() == [4.0]
    assert part(columns, "nothing")["y"].tolist() == []
    back = read_back(files.csv_bytes({"x": np.array([0.1 + 0.2, 1e-300, np.inf])}))
    assert back["x"].tolist() == [0.1 + 0.2, 1e-300, np.inf]
