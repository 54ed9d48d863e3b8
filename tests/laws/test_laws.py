"""Fits recover known laws, agree with published tables, and refuse what does not determine them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws import holdout_forecast
from scaling.laws.envelope import Curve
from scaling.laws.frontier import cost_per_token, frontier
from scaling.laws.quadratic import fit_quadratics
from scaling.laws.table import CannotFit, make_table
from scaling.utils import notices

LAW = {"A": 400.0, "B": 900.0, "E": 1.7, "alpha": 0.35, "beta": 0.37}


def loss_of(n_params, tokens):
    return LAW["E"] + LAW["A"] * n_params ** -LAW["alpha"] + LAW["B"] * tokens ** -LAW["beta"]


def synthetic(noise=0.0, seed=0, budgets=(1e17, 1e18, 1e19, 1e20), sizes=7, span=1.2):
    """An IsoFLOP sweep of the known law around its optimum, losses with log-normal noise."""
    rng = np.random.default_rng(seed)
    n, c = [], []
    a = LAW["beta"] / (LAW["alpha"] + LAW["beta"])
    scale = (LAW["alpha"] * LAW["A"] / (LAW["beta"] * LAW["B"])) ** (
        1 / (LAW["alpha"] + LAW["beta"])
    )
    for budget in budgets:
        best = scale * (budget / 6) ** a
        n += list(best * np.exp(np.linspace(-span, span, sizes)))
        c += [budget] * sizes
    n, c = np.array(n), np.array(c)
    d = c / (6 * n)
    loss = loss_of(n, d) * np.exp(noise * rng.standard_normal(len(n)))
    return make_table(n_params=n, tokens=d, flops=c, loss=loss, budget=c)


def test_chinchilla_recovers_the_law_without_noise():
    fit = laws.fit_chinchilla(synthetic(), bootstrap=100)
    assert fit.verdict == "good", fit.warnings
    for name, value in LAW.items():
        assert fit.values[name] == pytest.approx(value, rel=1e-3), name
    assert fit.reached > 0.5


def test_chinchilla_recovers_the_law_within_its_intervals_under_noise():
    inside = dict.fromkeys(("E", "alpha", "beta", "a"), 0)
    truth = {**LAW, "a": LAW["beta"] / (LAW["alpha"] + LAW["beta"])}
    for seed in range(12):
        fit = laws.fit_chinchilla(synthetic(0.003, seed, sizes=9), delta=1e-2, bootstrap=150)
        for name in inside:
            i = fit.intervals[name]
            inside[name] += i.low <= truth[name] <= i.high
        assert fit.intervals["a"].value == pytest.approx(truth["a"], abs=0.1)
    # nominal 90%: at most four of twelve may miss (probability below 1% if coverage is right)
    assert all(count >= 8 for count in inside.values()), inside


def test_optimum_agrees_with_its_closed_form_and_the_frontier():
    table = synthetic()
    fit = laws.fit_chinchilla(table, bootstrap=20)
    n_opt, tokens_opt = fit.optimum(1e21)
    assert 6 * n_opt.value * tokens_opt.value == pytest.approx(1e21)
    (found,) = frontier(fit, table, [1e21])
    assert found.n_params.value == pytest.approx(n_opt.value, rel=0.02)
    assert found.loss.value == pytest.approx(
        float(fit.predict(n_opt.value, tokens_opt.value)), rel=1e-4
    )


def test_cost_per_token_is_six_n_where_the_table_says_so():
    cost = cost_per_token(synthetic())
    for n in (1e6, 1e8, 1e12):
        assert cost(np.array([n]))[0] == pytest.approx(6 * n, rel=1e-6)


def test_isoflop_recovers_optima_and_exponents():
    fit = laws.fit_isoflop(synthetic(0.0), bootstrap=100)
    a = LAW["beta"] / (LAW["alpha"] + LAW["beta"])
    # a parabola is only near the true profile, so the tolerance is that of its bias on this grid
    assert fit.n_opt.exponent.value == pytest.approx(a, abs=0.01)
    assert fit.tokens_opt.exponent.value == pytest.approx(1 - a, abs=0.01)
    assert not fit.warnings


def test_isoflop_intervals_hold_the_exponent_under_noise():
    a, inside = LAW["beta"] / (LAW["alpha"] + LAW["beta"]), 0
    for seed in range(20):
        exponent = laws.fit_isoflop(synthetic(0.002, seed, sizes=9), bootstrap=200).n_opt.exponent
        inside += exponent.low <= a <= exponent.high
    assert inside >= 16


def test_isoflop_drops_budgets_without_an_interior_minimum():
    table = synthetic()
    edge = (table.budget != 1e20) | (
        table.n_params < np.median(table.n_params[table.budget == 1e20]) / 1.3
    )
    few = laws.fit_isoflop(table.rows(edge), bootstrap=20)
    bad = [p for p in few.profiles if p.problem]
    assert [p.budget for p in bad] == [1e20]
    assert few.warnings and few.n_opt.x_range[1] == 1e19


def test_a_profile_without_a_minimum_near_its_sizes_is_finite_and_left_out():
    t = synthetic()
    straight = t.budget == 1e20
    log_n = np.log(t.n_params)
    line = np.exp(1.5 - 0.01 * (log_n - log_n.min()) + 1e-9 * (log_n - log_n.mean()) ** 2)
    table = make_table(
        n_params=t.n_params, tokens=t.tokens, flops=t.flops, budget=t.budget,
        loss=np.where(straight, line, t.loss),
    )  # fmt: skip
    with np.errstate(all="raise"):
        fit = laws.fit_isoflop(table, bootstrap=20)
    (bad,) = (p for p in fit.profiles if p.problem)
    sizes = t.n_params[straight]
    assert bad.budget == 1e20 and bad.problem.kind == notices.EDGE_MINIMUM
    assert bad.n_opt.value == pytest.approx(sizes.max() ** 2 / sizes.min())
    assert np.isfinite(bad.draws).all()


@pytest.mark.parametrize("rounding", [-1e-16, 0.0, 1e-16])
def test_a_straight_profile_has_no_minimum_whatever_the_sign_of_its_rounding(rounding):
    x_P1 = np.linspace(-1.0, 1.0, 5)[:, None]
    y_1P = (1.5 - 0.01 * x_P1[:, 0] + rounding * x_P1[:, 0] ** 2)[None]
    straight = fit_quadratics(x_P1, y_1P, np.ones(5))
    assert np.isnan(straight.minima()[0]).all()
    # rounding of the coefficients themselves, as another CPU leaves it
    bent = dataclasses.replace(straight, hessian_BFF=np.full((1, 1, 1), rounding))
    assert np.isnan(bent.minima()[0]).all()
    curved = fit_quadratics(x_P1, y_1P + 1e-9 * x_P1[:, 0] ** 2, np.ones(5))
    assert np.isfinite(curved.minima()[0]).all()


def test_isoflop_refuses_parabolas_that_open_downward():
    t = synthetic()
    turned = make_table(
        n_params=t.n_params, tokens=t.tokens, flops=t.flops, loss=8 - t.loss, budget=t.budget
    )
    with pytest.raises(CannotFit, match="opens downward"):
        laws.fit_isoflop(turned, bootstrap=20)


def curves():
    found = []
    for i, n in enumerate(np.geomspace(1e5, 1e8, 49)):
        tokens = np.geomspace(1e5, 1e11, 600)
        found.append(Curve(str(i), n, tokens, 6 * n * tokens, loss_of(n, tokens)))
    return found


def test_envelope_recovers_the_exponent_of_an_undisturbed_frontier():
    # many sizes, since N on the envelope moves in steps of the ladder
    fit = laws.fit_envelope(curves(), smoothing=0.02, bootstrap=50, flops_range=(1e13, 1e16))
    a = LAW["beta"] / (LAW["alpha"] + LAW["beta"])
    assert fit.n_opt.exponent.value == pytest.approx(a, abs=0.03)
    assert fit.frontier.exponent.value < 0


def test_envelope_needs_several_sizes():
    with pytest.raises(CannotFit, match="needs at least 3"):
        laws.fit_envelope(curves()[:2])
    same = [Curve(str(i), 1e6, c.tokens, c.flops, c.loss) for i, c in enumerate(curves())]
    with pytest.raises(CannotFit, match="1 size"):
        laws.fit_envelope(same, bootstrap=5)


def test_points_that_scatter_beyond_their_draws_widen_the_law():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e18, 1e20, 6)
    scatter, own, hits = 0.1, 0.01, 0
    for _ in range(60):
        y = 0.3 * x**0.5 * np.exp(scatter * rng.standard_normal(6))
        draws = y * np.exp(own * rng.standard_normal((200, 6)))
        sure, honest = (laws.fit_power(x, y, draws, scattered=s).exponent for s in (False, True))
        # relative to the exponent: a float64 line through 6 points rounds to about 1e-15
        assert sure.value == pytest.approx(honest.value, rel=1e-12) and honest.se > sure.se
        hits += honest.low <= 0.5 <= honest.high
    assert 48 <= hits <= 59  # of 60 at 90%, the scatter being known from four degrees of freedom
    on_line = laws.fit_power(x, 0.3 * x**0.5, draws, scattered=True)
    assert on_line.exponent.se < 2 * laws.fit_power(x, 0.3 * x**0.5, draws).exponent.se


def test_budgets_draw_their_noise_by_themselves():
    fit = laws.fit_isoflop(synthetic(0.002, 3, sizes=9), bootstrap=400)
    log_BK = np.log(np.stack([p.draws[:, 0] for p in fit.profiles], axis=1))
    correlation = np.corrcoef(log_BK, rowvar=False) - np.eye(log_BK.shape[1])
    assert np.abs(correlation).max() < 0.2


def test_power_law_and_its_interval():
    x = np.geomspace(1, 1e4, 9)
    rng = np.random.default_rng(0)
    draws = 3 * x**0.6 * np.exp(0.05 * rng.standard_normal((300, 9)))
    fit = laws.fit_power(x, 3 * x**0.6, draws)
    assert fit.exponent.value == pytest.approx(0.6) and fit.coefficient.value == pytest.approx(3)
    assert fit.exponent.low < 0.6 < fit.exponent.high
    assert fit.predict(1e6) == pytest.approx(3 * 1e6**0.6)
    with pytest.raises(CannotFit):
        laws.fit_power([1.0, 1.0], [2.0, 2.0])


def test_offset_law_is_recovered_and_refused():
    x = np.geomspace(1e3, 1e7, 9)
    noise = 1 + 0.002 * np.random.default_rng(1).standard_normal(9)

    def fit(x, loss):
        table = make_table(x=x, loss=loss)
        return laws.fit(
            table, "power_offset", objective=laws.Objective("least_squares"), bootstrap=100
        )

    found = fit(x, (1.5 + 20 * x**-0.3) * noise)
    assert found.intervals["E"].value == pytest.approx(1.5, rel=0.02)
    assert found.intervals["a"].low <= 0.3 <= found.intervals["a"].high
    assert found.verdict == "good"
    assert fit(x, 20 * x**-0.1 * noise).verdict == "weakly identified"
    with pytest.raises(CannotFit, match="3 usable rows for 3 parameters"):
        fit(x[:3], x[:3])
    with pytest.raises(CannotFit, match="does not fall"):
        fit(x, 1 + x**0.2)


def test_backtest_trusts_the_law_that_made_the_data():
    errors, notes = holdout_forecast.backtest(synthetic(0.0), synthetic(0.0), delta=1e-3)
    assert len(errors["chinchilla"]) == len(errors["isoflop"]) == 1 and not notes
    assert abs(errors["chinchilla"][0]) < 2e-3 < abs(errors["isoflop"][0])


def test_forecast_holds_what_the_law_gives_beyond_the_table():
    table = synthetic(0.002, seed=3, budgets=(1e15, 1e16, 1e17, 1e18, 1e19, 1e20))
    chinchilla = laws.fit_chinchilla(table, delta=1e-2, bootstrap=100)
    isoflop = laws.fit_isoflop(table, bootstrap=100)
    n_opt, tokens_opt = (i.value for i in chinchilla.optimum(3e20))
    forecast = holdout_forecast.combine(
        table, table, chinchilla, isoflop, n_params=n_opt, tokens=tokens_opt, flops=3e20,
        delta=1e-2,
        confidence=0.9,
    )  # fmt: skip
    assert sum(forecast.weights.values()) == pytest.approx(1)
    assert all(len(e) == 3 for e in forecast.errors.values())
    assert forecast.weights["chinchilla"] > 0.9
    assert forecast.loss.low <= loss_of(n_opt, tokens_opt) <= forecast.loss.high
    assert forecast.loss.value == pytest.approx(loss_of(n_opt, tokens_opt), rel=0.02)


def test_one_backtest_leaves_the_weights_equal_and_says_so():
    table = synthetic(0.002, seed=3)
    chinchilla = laws.fit_chinchilla(table, delta=1e-2, bootstrap=50)
    isoflop = laws.fit_isoflop(table, bootstrap=50)
    forecast = holdout_forecast.combine(
        table, table, chinchilla, isoflop, n_params=1e9, tokens=5e10, flops=3e20, delta=1e-2,
        confidence=0.9,
    )  # fmt: skip
    assert set(forecast.weights.values()) == {0.5}
    assert any("1 held-back budget" in note for note in forecast.notes)
    mean = np.sqrt(np.prod([m.value for m in forecast.members.values()]))
    assert forecast.loss.value == pytest.approx(mean)


@pytest.mark.parametrize(
    ("keep", "said"),
    [
        (lambda t: np.arange(len(t)) < 5, "5 usable rows for 5 parameters"),
        (lambda t: t.n_params == t.n_params[0], "usable rows"),
    ],
)
def test_too_few_rows_are_refused(keep, said):
    table = synthetic()
    with pytest.raises(CannotFit, match=said):
        laws.fit_chinchilla(table.rows(keep(table)))


def test_degenerate_tables_are_refused():
    t = synthetic()
    same = make_table(n_params=np.full(len(t), 1e6), tokens=t.tokens, flops=t.flops, loss=t.loss)
    with pytest.raises(CannotFit, match="n_params has 1 distinct"):
        laws.fit_chinchilla(same)
    rising = make_table(
        n_params=t.n_params,
        tokens=t.tokens,
        flops=t.flops,
        loss=1 + t.n_params**0.1 + t.tokens**0.1,
    )
    with pytest.raises(CannotFit, match="does not fall"):
        laws.fit_chinchilla(rising)
    with pytest.raises(CannotFit, match="no row has a budget"):
        laws.fit_isoflop(
            make_table(n_params=t.n_params, tokens=t.tokens, flops=t.flops, loss=t.loss)
        )
    with pytest.raises(CannotFit, match="interior minimum, needs 2"):
        laws.fit_isoflop(t.rows(t.budget == 1e18))
