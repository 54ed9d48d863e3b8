"""Published measurements with known answers; `../shared/data/README.md` names their sources."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from benchmarks import learning_curves
from scaling.laws import api as laws
from scaling.laws.api import Objective
from tests.common import SHARED

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")

CHINCHILLA = {
    "A": 477.82586,
    "B": 2143.4173,
    "E": 1.8172181,
    "alpha": 0.3473105,
    "beta": 0.36717243,
}


@pytest.fixture(scope="module")
def points():
    return laws.read_csv(
        SHARED / "chinchilla" / "svg_extracted_data.csv",
        n_params="Model Size", flops="Training FLOP", loss="loss", drop_highest=5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def chinchilla(points):
    return laws.fit(points, objective=Objective(delta=1e-3), bootstrap=2000)


def test_chinchilla_optimum_and_standard_errors(chinchilla):
    for name, value in CHINCHILLA.items():
        assert chinchilla.values[name] == pytest.approx(value, rel=1e-5), name
    assert chinchilla.objective == pytest.approx(1.0182740178e-3, rel=1e-8)
    known = {"E": 0.0257, "alpha": 0.0154, "beta": 0.0206, "a": 0.0200}
    for name, se in known.items():
        assert chinchilla.intervals[name].se == pytest.approx(se, rel=0.08), name
    n_opt, tokens_opt = chinchilla.optimum(5.76e23)
    assert n_opt.value == pytest.approx(73.190e9, rel=1e-4)
    assert tokens_opt.value == pytest.approx(1.31165e12, rel=1e-4)


def test_the_published_tuple_is_the_l1_optimum_and_that_of_the_scale_adjusted_likelihood(points):
    l1 = laws.fit(points, objective=Objective("l1"), bootstrap=0)
    assert l1.objective == pytest.approx(1.1294946536, rel=1e-4)
    likelihood = laws.fit(points, objective=Objective("likelihood", delta=1e-3), bootstrap=0)
    assert likelihood.delta == pytest.approx(5e-9, rel=0.2)
    for law in (l1, likelihood):
        assert law.values["alpha"] == pytest.approx(0.34781307, abs=1e-5)
        assert law.values["beta"] == pytest.approx(0.36585416, abs=1e-5)


@pytest.mark.slow
def test_forecast_of_the_largest_chinchilla_runs(points):
    below = points.flops < 1e21
    above = points.rows(~below)
    found = laws.forecast(points.rows(below), above.n_params, above.tokens, bootstrap=200)
    assert np.sqrt(np.mean(np.log(found.values / above.loss) ** 2)) <= 0.0130
    inside = [i.low <= x <= i.high for i, x in zip(found.intervals, above.loss, strict=True)]
    assert np.mean(inside) >= 0.8


def test_gemstones_optimum():
    table = laws.read_csv(
        SHARED / "gemstones_hot" / "runs.csv",
        n_params="params_active_precise", tokens="tokens", loss="final_loss",
    )  # fmt: skip
    law = laws.fit(table, objective=Objective(delta=1e-3), bootstrap=0)
    assert law.objective == pytest.approx(1.981612809e-3, rel=1e-6)
    assert law.values["alpha"] == pytest.approx(0.29289, abs=5e-4)
    assert law.values["beta"] == pytest.approx(0.71298, abs=5e-4)


@pytest.mark.slow
def test_muennighoff_is_weakly_identified():
    table = laws.read_csv(
        SHARED / "muennighoff2023" / "c4_182_outliers_removed.csv",
        n_params="N", tokens="D", unique_tokens="U", loss="loss",
    )  # fmt: skip
    fixed = {
        "A": np.exp(6.255414), "B": np.exp(7.3049974), "E": np.exp(0.6254804),
        "alpha": 0.3526596, "beta": 0.3526596,
    }  # fmt: skip
    law = laws.fit(
        table, "data_constrained", objective=Objective(delta=1e-3), fixed=fixed, bootstrap=200
    )
    assert law.objective <= 0.0158047
    assert law.verdict == "weakly identified"
    assert law.intervals["R_D"].low < 10 and law.intervals["R_D"].high > 1e9
    assert all(law.values[name] == pytest.approx(value) for name, value in fixed.items())


def gadre(*columns):
    path = SHARED / "gadre2024_rpj" / "runs.csv"
    with open(path, newline="") as handle:
        rows = list(csv.DictReader(handle))
    key = {(r["model_name"], float(r["tok_mult"])): i for i, r in enumerate(rows)}
    table = laws.read_csv(
        path, n_params="N", tokens="D", loss="loss_c4_val", **dict(columns)
    )  # fmt: skip
    return table, key


@pytest.mark.slow
def test_gadre_recipe():
    table, key = gadre(("tokens_per_param", "tok_mult"), ("error", "err_avg_subset"))
    small = [("d=96_l=8_h=4", 20), ("d=512_l=8_h=4", 20), ("d=576_l=24_h=8", 20)]
    small += [("d=1024_l=24_h=8", 20), ("d=96_l=8_h=4", 320)]
    squares = Objective("least_squares", linear=True)
    rows = [key[k] for k in small]
    law = laws.fit(table.rows(rows), "over_training", objective=squares, bootstrap=0)
    link = laws.fit(
        table.rows([*rows, key["open_lm_1b", 20]]), "loss_to_error", objective=squares, bootstrap=0
    )
    assert law.values["E"] == pytest.approx(1.836648, abs=1e-6)
    assert -2 * law.values["eta"] == pytest.approx(-0.272851, abs=1e-6)
    known = {("open_lm_1b", 640): (0.7103, 3.6365), ("open_lm_7b", 20): (0.7320, 0.0464)}
    for run, (of_loss, of_error) in known.items():
        i = key[run]
        loss = law.predict(table.n_params[i], table["tokens_per_param"][i])
        assert 100 * abs(loss / table.loss[i] - 1) == pytest.approx(of_loss, abs=2e-3)
        error = link.predict(loss)
        assert 100 * abs(error / table["error"][i] - 1) == pytest.approx(of_error, abs=2e-3)


def test_gadre_forecast_of_the_large_models_from_the_small_ones():
    table, _ = gadre()
    small = table.n_params < 0.5e9
    large = table.rows(~small)
    found = laws.forecast(table.rows(small), large.n_params, large.tokens, bootstrap=300)
    assert np.mean(np.abs(found.values / large.loss - 1)) <= 0.01
    assert all(i.low <= x <= i.high for i, x in zip(found.intervals, large.loss, strict=True))


BEST_OF_M1_TO_M4 = {"IC": 0.0497, "LM": 0.00094, "NMT": 0.0208, "BB": 0.0087}


@pytest.mark.slow
@pytest.mark.parametrize("group", BEST_OF_M1_TO_M4)
def test_learning_curves_are_extrapolated_better_than_by_their_authors(group):
    known = learning_curves.curves(SHARED / "alabdulmohsin2022")
    found = [
        learning_curves.rmsle(*tables, bootstrap=0)[0]
        for (domain, *_), tables in known.items()
        if domain == group
    ]
    assert len(found) >= 5
    assert np.mean(found) <= BEST_OF_M1_TO_M4[group]


def test_porian_exponents_by_akima():
    folder = SHARED / "porian2024_refinedweb"
    inside = 0
    with open(folder / "published_exponents.csv", newline="") as handle:
        published = list(csv.DictReader(handle))
    for row in published:
        keys = ("hparams", "warmup", "decay", "param_count", "loss")
        table = laws.read_csv(
            folder / "isoflop_points.csv", n_params="N", tokens="D", flops="flops", budget="flops",
            loss="loss_val", where=",".join(f"{k}={row[k]}" for k in keys),
        )  # fmt: skip
        law = laws.fit_isoflop(table, method="akima", bootstrap=300, confidence=0.95).n_opt
        known = float(row["a_pub"])
        assert law.exponent.value == pytest.approx(known, abs=0.01), row
        inside += law.exponent.low <= known <= law.exponent.high
    assert inside >= 4
