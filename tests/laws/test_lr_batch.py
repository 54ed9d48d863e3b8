"""Laws of tuned hyperparameters: known laws are recovered, false optima are left out by name."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws.lr_batch_optima import tuned
from scaling.laws.table import CannotFit, make_table
from scaling.utils import notices
from scaling.utils.errors import UserError
from tests.common import ROOT

K, P, Q = 1.79, -0.713, 0.307  # Step Law's learning rate
SIZES, LENGTHS = np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 3)


def lr_opt(n, d):
    return K * n**P * d**Q


def batch_opt(d):
    return 0.58 * d**0.571


def grids(noise=0.0, seed=0, *, batch=False, points=None, bend=0.02, steps=range(-3, 4)):
    """Runs around known optima: log loss a parabola in log lr, or a tilted bowl in log lr and log
    batch.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for n, d in points or [(n, d) for n in SIZES for d in LENGTHS]:
        for i in steps:
            for j in range(-2, 3) if batch else (0,):
                u = (i + 0.3) * np.log(2) - 0.5 * j * np.log(2)
                v = (j + 0.2 * batch) * np.log(2)
                lr, b = lr_opt(n, d) * np.exp(u + 0.5 * v), batch_opt(d) * np.exp(v)
                log_loss = 1 + bend * u**2 + 0.01 * v**2 + noise * rng.standard_normal()
                rows.append((n, d, lr, b, np.exp(log_loss)))
    names = ("n_params", "tokens", "lr", "batch", "loss")
    columns = dict(zip(names, np.array(rows).T, strict=True))
    if not batch:
        del columns["batch"]
    return make_table(flops=6 * columns["n_params"] * columns["tokens"], **columns)


def test_exponents_are_exact_without_noise():
    law = laws.fit_optimum_of(grids(), "lr", bootstrap=100)
    for name, value in (("k", K), ("p", P), ("q", Q)):
        assert law.law[name].value == pytest.approx(value, rel=1e-6)
    assert law.predict(7e9, 1e12) == pytest.approx(lr_opt(7e9, 1e12), rel=1e-6)
    assert law.verdict == "good" and not law.warnings
    # of log optima: the vertex of a log loss near 1 with bend 0.02 rounds to about 1e-14
    assert law.scatter == pytest.approx(0, abs=1e-12)
    # 1% of the loss is lost at |log lr - log lr*| = sqrt(log 1.01 / 0.02)
    assert law.wrong_by == pytest.approx(np.exp(np.sqrt(np.log(1.01) / 0.02)), rel=1e-6)


def test_lr_and_batch_are_tuned_together_where_both_vary():
    table = grids(batch=True)
    lr = laws.fit_optimum_of(table, "lr", bootstrap=100)
    batch = laws.fit_optimum_of(table, "batch", of=("tokens",), bootstrap=100)
    assert (lr.law["p"].value, lr.law["q"].value) == pytest.approx((P, Q), rel=1e-6)
    assert (batch.law["k"].value, batch.law["q"].value) == pytest.approx((0.58, 0.571), rel=1e-6)
    group = lr.groups[0]
    assert group.at["batch"] == pytest.approx(batch_opt(group.inputs["tokens"]), rel=1e-6)


def test_a_law_of_compute():
    points = [(n, 20 * n) for n in np.geomspace(1e7, 1e9, 5)]
    law = laws.fit_optimum_of(grids(points=points), "lr", of=("flops",), bootstrap=100)
    assert law.law["p"].value == pytest.approx((P + Q) / 2, rel=1e-6)
    assert law.equation == "lr(C) = k C^p"


@pytest.mark.parametrize("batch", [False, True])
def test_intervals_hold_the_truth_about_as_often_as_they_say(batch):
    inside = np.zeros(4, int)
    for seed in range(30):
        law = laws.fit_optimum_of(grids(0.003, seed, batch=batch), "lr", bootstrap=200)
        ends = [*law.law.values(), law.predict_interval(7e9, 1e12)]
        truth = (K, P, Q, lr_opt(7e9, 1e12))
        inside += [i.low <= t <= i.high for i, t in zip(ends, truth, strict=True)]
    # 90% intervals: fewer than 22 of 30 has a chance below 1 in 100
    assert (inside >= 22).all(), inside


def test_seeds_are_one_point_and_narrow_the_law():
    one = grids(0.004, 1)
    more = [grids(0.004, s) for s in range(1, 5)]
    names = one.columns
    four = make_table(**{c: np.concatenate([t[c] for t in more]) for c in names})
    narrow, wide = (laws.fit_optimum_of(t, "lr").law["p"].se for t in (four, one))
    assert narrow < wide / 1.4


def test_seeds_give_an_interval_where_three_points_leave_no_residual():
    """Three rates of three seeds each: the interval is as wide as the seeds scatter the optimum."""
    hits, found = 0, []
    for seed in range(40):
        tables = [
            grids(0.01, 100 * seed + k, points=[(1e8, 1e10)], bend=0.1, steps=range(-1, 2))
            for k in range(3)
        ]
        rows = {n: np.concatenate([t[n] for t in tables]) for n in ("n_params", "tokens", "lr")}
        table = make_table(loss=np.concatenate([t.loss for t in tables]), **rows)
        (group,) = tuned(table, "lr", near=1e-6, bootstrap=200, confidence=0.9)
        if not group.problem:
            found.append(group.optimum.value)
            hits += group.optimum.low <= lr_opt(1e8, 1e10) <= group.optimum.high
    assert len(found) > 30
    assert 0.75 <= hits / len(found) <= 1, hits / len(found)


def test_an_optimum_at_the_edge_is_left_out_and_named():
    table = grids(0.001)
    first = (table.n_params == SIZES[0]) & (table.tokens == LENGTHS[0])
    high = table["lr"] > 0.9 * lr_opt(SIZES[0], LENGTHS[0])
    law = laws.fit_optimum_of(table.rows(~first | high), "lr", bootstrap=100)
    (bad,) = (g for g in law.groups if g.problem)
    assert bad.inputs["n_params"] == pytest.approx(SIZES[0]) and np.isnan(bad.optimum.value)
    (warning,) = (w for w in law.warnings if w.kind == notices.EDGE_OF_GRID)
    assert "N 1e+07 D 1e+09: left out" in warning.text and "try smaller ones" in warning.text
    assert law.verdict == "good"


def test_mostly_bad_grids_are_doubtful():
    table = grids(0.001)
    low = table["lr"] > 0.9 * lr_opt(table.n_params, table.tokens)
    few = laws.fit_optimum_of(table.rows(low | (table.n_params > SIZES[1])), "lr", bootstrap=100)
    assert len([g for g in few.groups if g.problem]) == 6 and few.verdict == "doubtful"
    with pytest.raises(CannotFit, match=r"0 of 12 groups .* try smaller ones"):
        laws.fit_optimum_of(table.rows(low), "lr")


def test_profiles_without_a_minimum_are_refused():
    turned = grids(bend=-0.02, steps=range(-3, 3))
    with pytest.raises(CannotFit, match="edge of the grid"):
        laws.fit_optimum_of(turned, "lr")
    # lowest in the middle of nine points, yet a saddle: a dent of 0.1 on 0.085 u v
    u, v = (x.ravel() for x in np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]))
    loss = np.exp(1 + 0.085 * u * v - 0.1 * ((u == 0) & (v == 0)))
    ones = np.ones(9)
    saddle = make_table(n_params=ones, tokens=ones, lr=np.exp(u), batch=np.exp(v), loss=loss)
    with pytest.raises(CannotFit, match="the quadratic is no bowl"):
        laws.fit_optimum_of(saddle, "lr")


def test_a_hyperparameter_that_varies_unnamed_is_not_averaged_over():
    table = grids(0.001, batch=True)
    without = make_table(**{c: v for c, v in table.columns.items() if c != "lr"})
    with pytest.raises(CannotFit, match=r"something else varies; name it \(--lr, --batch\)"):
        laws.fit_optimum_of(without, "batch", of=("tokens",))


def test_refusals_name_the_mend():
    ratio = [(n, 20 * n) for n in SIZES]
    with pytest.raises(CannotFit, match=r"tokens goes as n_params\^1 .* --of=n_params"):
        laws.fit_optimum_of(grids(points=ratio), "lr")
    with pytest.raises(CannotFit, match=r"1 of 1 groups .* needs 3"):
        laws.fit_optimum_of(grids(points=[(1e7, 1e9)]), "lr")
    with pytest.raises(CannotFit, match="tokens is the same in every group"):
        laws.fit_optimum_of(grids(points=[(n, 1e10) for n in SIZES]), "lr")
    with pytest.raises(CannotFit, match="lr takes one value"):
        laws.fit_optimum_of(grids(steps=(0,)), "lr")
    with pytest.raises(CannotFit, match=r"no column batch .* --batch=COLUMN"):
        laws.fit_optimum_of(grids(), "batch")
    with pytest.raises(UserError, match="--of=n_params,flops: choose"):
        laws.fit_optimum_of(grids(), "lr", of=("n_params", "flops"))
    with pytest.raises(UserError, match="'wd' is no hyperparameter"):
        laws.fit_optimum_of(grids(), "wd")


def test_as_many_optima_as_parameters_is_not_called_good():
    points = [(1e7, 1e9), (1e8, 1e9), (1e7, 1e11)]
    law = laws.fit_optimum_of(grids(0.001, points=points), "lr", bootstrap=100)
    assert law.verdict == "weakly identified"
    assert notices.NO_DEGREES_OF_FREEDOM in {w.kind for w in law.warnings}


def test_three_rates_per_size_give_a_rule_whose_interval_is_that_of_its_scatter():
    """The study in experiments/lr_study: 0.876 N^-0.4."""
    with (ROOT / "experiments" / "lr_study" / "lr_study.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("n_params", "tokens", "lr", "loss")
    table = make_table(**{c: [float(r[c]) for r in rows] for c in names})
    three = laws.fit_optimum_of(table, "lr", of=("n_params",), near=0.0)
    assert three.law["k"].value == pytest.approx(0.8756179, rel=1e-6)
    assert three.law["p"].value == pytest.approx(-0.3996792, rel=1e-6)
    assert any(w.kind == notices.NO_RESIDUALS for w in three.warnings)
    more = laws.fit_optimum_of(table, "lr", of=("n_params",))
    assert more.law["p"].low < three.law["p"].value < more.law["p"].high
    assert len(more.groups) == 12 and not more.warnings


# laws of a table of optima


def optima(q=Q, noise=0.03):
    rng = np.random.default_rng(0)
    n = np.exp(rng.uniform(16, 21, 14))
    d = n * np.exp(rng.uniform(1, 5, 14))
    lr = K * n**P * d**q * np.exp(noise * rng.standard_normal(14))
    return make_table(n_params=n, tokens=d, flops=6 * n * d, lr=lr, batch=batch_opt(d))


def test_a_table_of_optima_is_fitted_by_name():
    law = laws.fit(optima(), "lr_law", bootstrap=200)
    for name, value in (("p", P), ("q", Q)):
        assert law.intervals[name].low < value < law.intervals[name].high
    assert law.verdict == "good" and law.reached == 1 and "log lr" in law.described
    batch = laws.fit(optima(), "batch_law", bootstrap=100)
    assert batch.values["q"] == pytest.approx(0.571) and abs(batch.values["p"]) < 1e-9


def test_an_exponent_of_zero_is_an_answer():
    law = laws.fit(optima(q=0.0), "lr_law", bootstrap=200)
    assert law.intervals["q"].low < 0 < law.intervals["q"].high and law.verdict == "good"
    rng = np.random.default_rng(1)
    flat = optima().with_columns(lr=1e-3 * np.exp(0.02 * rng.standard_normal(14)))
    law = laws.fit(flat, laws.power_product("lr", ("flops",)), bootstrap=200)
    assert abs(law.values["p"]) < 0.01 and law.verdict == "good"


def test_inputs_that_move_together_are_refused():
    n = np.geomspace(1e7, 1e9, 6)
    table = make_table(n_params=n, tokens=n**0.8 * 1e3, lr=n**-0.3)
    with pytest.raises(CannotFit, match=r"tokens goes as n_params\^0.8"):
        laws.fit(table, "lr_law")
