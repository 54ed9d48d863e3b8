"""Forecasts: folds that only know what they may, weights that follow the backtest, laws of the late
part.
"""

from __future__ import annotations

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws import backtest
from scaling.laws.api import FORMS, Objective
from scaling.laws.backtest import Member
from scaling.laws.table import CannotFit, make_table

X = np.geomspace(1e6, 1e9, 40)


def curve(loss, noise=0.0, seed=0):
    return make_table(
        x=X, loss=loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(X)))
    )


def test_folds_of_a_curve_look_at_most_twice_as_far_as_they_know():
    found = backtest.of_curve(X)
    assert len(found) == 5
    for fold in found:
        assert not (fold.fitted_N & fold.scored_N).any()
        assert X[fold.scored_N].min() > X[fold.fitted_N].max()
        assert (
            X[fold.scored_N].max() <= 2 * 2**0.5 * X[fold.fitted_N].max()
        )  # the cut lies between rows


def test_folds_of_runs_hold_back_whole_budgets():
    flops = np.repeat([1e18, 1e19, 1e20, 1e21], 5)
    for fold in backtest.of_runs(flops):
        assert flops[fold.fitted_N].max() < flops[fold.scored_N].min()
        assert (fold.fitted_N ^ fold.scored_N).all()


def test_the_rows_asked_for_have_no_part_in_the_law_that_is_asked():
    table = curve(1.5 + 30 * X**-0.3, noise=0.002)
    fold = backtest.of_curve(X)[1]
    (asked,) = np.flatnonzero(fold.scored_N)[-1:]
    only = backtest.Fold(fold.fitted_N, np.arange(len(X)) == asked)
    raised = table.with_columns(loss=table.loss * np.where(only.scored_N, 1.5, 1.0))
    members = [Member(FORMS["power_offset"])]
    squares = Objective("least_squares")
    before, after = (
        backtest.backtest(t, members, [only], squares)[0]["power_offset"][0]
        for t in (table, raised)
    )
    assert after == pytest.approx(np.log(1.5), abs=2 * before + 1e-9)


@pytest.mark.slow
def test_a_forecast_of_a_curve_holds_what_comes():
    def truth(x):
        return 1.5 + 30 * x**-0.3

    found = laws.forecast(curve(truth(X), noise=0.003), [1.5e9, 3e9], bootstrap=100)
    assert sum(found.weights.values()) == pytest.approx(1)
    assert set(found.weights) <= {
        "power_offset", "shifted_power", "m4", "broken", "power_offset_late",
        "shifted_power_late", "level_late",
    }  # fmt: skip
    for value, i, x in zip(found.values, found.intervals, (1.5e9, 3e9), strict=True):
        assert value == pytest.approx(truth(x), rel=5e-3)
        assert i.low <= truth(x) <= i.high
    assert found.weights["level_late"] == min(found.weights.values())  # it falls on


@pytest.mark.slow
def test_where_nothing_changes_any_more_the_level_has_the_say():
    still = 2.0 + np.where(X < 2e7, 0.5 * (2e7 / X - 1), 0.0)
    found = laws.forecast(curve(still, noise=0.004), 2e9, bootstrap=0)
    assert found.weights["level_late"] > 1 / len(found.weights)
    assert found.values[0] == pytest.approx(2.0, rel=4e-3)


def test_a_late_law_is_that_of_the_end():
    early = 40 * (1 + (2e7 / X) ** 2) ** 0.5  # another law below 2e7
    table = curve(1.5 + early * X**-0.3)
    squares = Objective("least_squares")
    plain, late = (
        laws.fit(table, "power_offset", objective=squares, bootstrap=0, late=p) for p in (0.0, 2.0)
    )
    truth = 1.5 + 40 * 4e9**-0.3
    assert abs(late.predict(4e9) - truth) < 0.4 * abs(plain.predict(4e9) - truth)
    assert late.spread < plain.spread


def test_forms_of_other_inputs_are_refused():
    with pytest.raises(CannotFit, match="chinchilla is a law of n_params, tokens"):
        laws.forecast(curve(1.5 + X**-0.3), 2e9, forms=("chinchilla",))


def test_a_dead_floor_does_not_look_exact():
    """Without a floor in the losses E runs to 0; its interval still shows how large it may be."""
    rng = np.random.default_rng(2)
    n = np.exp(rng.uniform(np.log(1e6), np.log(1e8), 24))
    d = n * np.exp(rng.uniform(np.log(3), np.log(300), 24))
    loss = (30 * n**-0.15 + 20 * d**-0.12) * np.exp(0.005 * rng.standard_normal(24))
    law = laws.fit(make_table(n_params=n, tokens=d, loss=loss), bootstrap=100)
    assert law.values["E"] < 0.05 * loss.min()
    assert law.intervals["E"].high > 0.1
    assert law.verdict == "weakly identified"
