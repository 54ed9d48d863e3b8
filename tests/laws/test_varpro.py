"""Variable projection has no bias where parabolas have one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from scaling.laws import api as laws
from scaling.laws.table import CannotFit, make_table
from scaling.utils import notices


def uneven_sweep(alpha=0.5, beta=0.2, span=2.5, drift=0.0):
    """A noiseless IsoFLOP grid, wide, of a law with uneven exponents; its middle leaves the optimum
    as C^drift.
    """
    a, big_a, big_b = beta / (alpha + beta), 400.0, 60.0
    scale = (alpha * big_a / (beta * big_b)) ** (1 / (alpha + beta))
    budgets = np.repeat([1e17, 1e18, 1e19, 1e20], 9)
    n = (
        scale
        * (budgets / 6) ** a
        * (budgets / 1e18) ** drift
        * np.exp(np.tile(np.linspace(-span, span, 9), 4))
    )
    d = budgets / (6 * n)
    loss = 1.7 + big_a * n**-alpha + big_b * d**-beta
    return make_table(n_params=n, tokens=d, flops=budgets, loss=loss, budget=budgets), a


def test_exponents_within_half_a_percent_where_the_parabola_is_off():
    table, a = uneven_sweep()
    projected = laws.fit_varpro(table, bootstrap=5)
    assert projected.intervals["a"].value == pytest.approx(a, rel=0.005)
    assert projected.intervals["b"].value == pytest.approx(1 - a, rel=0.005)
    assert projected.intervals["alpha"].value == pytest.approx(0.5, rel=0.005)
    # the parabola's exponent is saved by the grid's symmetry, its optimum is not
    best = table.n_params.reshape(4, 9)[:, 4]
    parabola = laws.fit_isoflop(table, bootstrap=5).n_opt.predict([1e17, 1e18, 1e19, 1e20])
    assert np.all(np.abs(parabola / best - 1) > 0.05)
    v = {name: i.value for name, i in projected.intervals.items()}
    scale = (v["alpha"] * v["A"] / (v["beta"] * v["B"])) ** (1 / (v["alpha"] + v["beta"]))
    assert scale * (1e20 / 6) ** v["a"] == pytest.approx(best[-1], rel=0.005)


def test_parabolas_miss_the_exponent_where_the_grid_drifts_from_the_optimum():
    table, a = uneven_sweep(drift=-0.3)
    parabola = laws.fit_isoflop(table, bootstrap=5).n_opt.exponent.value
    assert abs(parabola / a - 1) > 0.02
    projected = laws.fit_varpro(table, bootstrap=5).intervals["a"].value
    assert projected == pytest.approx(a, rel=0.005)


def test_flat_losses_are_refused():
    table, _ = uneven_sweep()
    with pytest.raises(CannotFit):
        laws.fit_varpro(table.with_columns(loss=np.full(len(table), 2.0)), bootstrap=2)


@pytest.mark.parametrize("rounding", [0.0, 5e-16, 2e-14])
def test_coefficients_that_are_0_but_for_rounding_count_as_0(monkeypatch, rounding):
    """Least squares leave 5e-16 where the exact coefficient is 0, on some CPUs."""
    exact = optimize.nnls

    def rounded(design, target):
        solution, norm = exact(design, target)
        return np.where(np.abs(solution) < 1e-9, rounding, solution), norm

    monkeypatch.setattr(optimize, "nnls", rounded)
    table, _ = uneven_sweep()
    with pytest.raises(CannotFit, match="one of the terms is 0"):
        laws.fit_varpro(table.with_columns(loss=np.full(len(table), 2.0)), bootstrap=0)
    floorless = 400 * table.n_params**-0.35 + 900 * table.tokens**-0.37 - 0.05
    law = laws.fit_varpro(table.with_columns(loss=floorless), bootstrap=2)
    assert notices.NOT_IDENTIFIED in {w.kind for w in law.warnings}
