"""Verdicts: what must not be called good, by its kind of notice, and what must.

`benchmarks.verdicts` counts the same on thousands of tables.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from benchmarks.verdict_tables import (
    KINDS,
    TRUTH,
    Reader,
    clean,
    crossed,
    fan,
    loss_of,
    optimum,
    profiles,
)
from scaling.laws import agreement, checks, extrapolation, to_text
from scaling.laws import api as laws
from scaling.laws.bootstrap import Interval
from scaling.laws.table import make_table
from scaling.utils import notices

ENOUGH = 100  # refits of which 5 lie beyond each end of a 90% interval


def noisy(columns, noise=0.003, seed=0, **law):
    loss = loss_of(columns["N"], columns["D"], **law)
    return loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(loss)))


def table_of(columns, loss, **more):
    budget = {"flops": columns["C"], "budget": columns["C"]} if "C" in columns else {}
    return make_table(n_params=columns["N"], tokens=columns["D"], loss=loss, **budget, **more)


def grid():
    return crossed(np.geomspace(1e7, 1e9, 6), np.geomspace(2e8, 2e10, 6))


def kinds(found) -> set:
    return {notice.kind for notice in found}


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_with_a_fault_is_not_called_good(kind, tmp_path):
    read, rng = Reader(tmp_path), np.random.default_rng(0)
    for _ in range(1 if kind == "curves" else 2):  # curves have hundreds of rows
        columns, form = KINDS[kind](rng)
        with contextlib.suppress(laws.CannotFit):
            assert laws.fit(read(columns), form, bootstrap=ENOUGH).verdict != "good"


@pytest.mark.parametrize("design", [grid, fan, lambda: profiles(5, 7, 1.2)])
def test_a_clean_table_is_called_good_and_its_intervals_hold_the_truth(design):
    columns, inside = design(), []
    for seed in range(2):
        law = laws.fit(table_of(columns, noisy(columns, seed=seed)), bootstrap=ENOUGH)
        assert law.verdict == "good", law.warnings
        inside += [i.low <= TRUTH[name] <= i.high for name, i in law.intervals.items()]
    assert np.mean(inside) > 0.7  # of 12 at 90%, correlated within a table


def test_the_verdict_does_not_depend_on_the_number_of_refits(tmp_path):
    read, rng = Reader(tmp_path), np.random.default_rng(1)
    for design in ("grid", "scattered"):
        table = read(clean("chinchilla", design, 0.02, rng))
        verdicts = {laws.fit(table, bootstrap=refits).verdict for refits in (200, 300)}
        assert len(verdicts) == 1


def test_few_refits_and_few_degrees_of_freedom_are_named():
    columns = grid()
    table = table_of(columns, noisy(columns))
    five = laws.fit(table, bootstrap=5)
    assert notices.FEW_RESAMPLES in kinds(five.warnings) and five.verdict == "doubtful"
    six = laws.fit(table.rows(np.array([0, 5, 14, 21, 30, 35])), bootstrap=ENOUGH)
    assert notices.FEW_DEGREES_OF_FREEDOM in kinds(six.warnings) and six.verdict != "good"


def test_an_outlier_is_named_by_its_row():
    columns = grid()
    loss = noisy(columns)
    loss[17] *= np.exp(60 * 0.003)
    names = tuple(f"run-{i}" for i in range(len(loss)))
    law = laws.fit(table_of(columns, loss, names=names), bootstrap=ENOUGH)
    (notice,) = (w for w in law.warnings if w.kind == notices.OUTLIER)
    assert "run-17 by " in notice.text and law.verdict == "doubtful"


@pytest.mark.parametrize(
    "fault",
    [
        lambda n, d, loss: loss * np.where(n > 1.5e8, 0.97, 1.0),
        lambda n, d, loss: loss * np.exp(0.02 * np.cos(9 * np.log(n))),
        lambda n, d, loss: loss - 0.08 * (d / n > 50),
        lambda n, d, loss: loss * (1 + 0.015 * (n == n.max()) * np.log(d / d.min())),
    ],
    ids=["recipe of large sizes", "noise shared per size", "recipe of long runs", "rising end"],
)
def test_structure_per_size_or_ratio_is_named(fault):
    n = np.repeat(np.geomspace(1e7, 1e9, 6), 4)
    columns = {"N": n, "D": n * np.tile([5, 20, 60, 200], 6)}
    loss = fault(columns["N"], columns["D"], noisy(columns))
    law = laws.fit(table_of(columns, loss), bootstrap=ENOUGH)
    assert notices.STRUCTURED_RESIDUALS in kinds(law.warnings) and law.verdict != "good"


def test_a_dead_term_is_unknown_in_every_parameter():
    n = np.repeat(np.geomspace(1e7, 1e9, 6), 3)
    d = np.tile([1e12, 2e12, 4e12], 6)  # so many tokens that their term vanishes
    loss = (1.8 + 400 * n**-0.35) * np.exp(1e-3 * np.random.default_rng(0).standard_normal(18))
    law = laws.fit(make_table(n_params=n, tokens=d, loss=loss), bootstrap=ENOUGH)
    (notice,) = (w for w in law.warnings if "vanishes" in w.text)
    assert notice.kind == notices.NOT_IDENTIFIED and "beta" in notice.text
    assert not np.isfinite(law.intervals["beta"].se) and not np.isfinite(law.intervals["a"].se)
    assert np.isfinite(law.intervals["alpha"].se) and law.verdict == "weakly identified"


def test_a_profile_that_is_no_parabola_is_named():
    columns = profiles(4, 9, 1.5)

    def judged(loss):
        table = table_of(columns, loss)
        return to_text.isoflop(laws.fit_isoflop(table, bootstrap=ENOUGH), table)

    noise = np.exp(2e-4 * np.random.default_rng(0).standard_normal(36))
    assert "no_parabola" not in judged(noisy(columns, 2e-4))["warning_kinds"]
    x = np.log(columns["N"] / optimum(columns["C"]))
    content = judged((3 + 0.02 * (np.exp(2 * x) - 2 * x)) * noise)  # steep on one side
    assert "no_parabola" in content["warning_kinds"] and content["verdict"] == "doubtful"


def test_two_answers_from_one_table_contradict_each_other():
    columns = profiles(5, 9, 1.0)
    table = table_of(columns, noisy(columns))
    minima = laws.fit_isoflop(table, bootstrap=ENOUGH)
    a = minima.n_opt.exponent
    apart = Interval(a.low - 0.05, 0.01, a.low - 0.07, a.low - 0.03)
    (notice,) = agreement.contradiction(minima, apart, table)
    assert notice.kind == notices.CONTRADICTION and a.brief() in notice.text
    assert agreement.contradiction(minima, a, table) == []
    law = laws.fit(table, bootstrap=ENOUGH)
    assert notices.CONTRADICTION not in kinds(law.warnings)
    # with another price per token the two exponents answer different questions
    other = table.with_columns(flops=table.flops * (columns["N"] / 1e8) ** 0.2)
    assert not agreement.comparable(other) and agreement.contradiction(minima, apart, other) == []


def test_a_point_says_how_far_it_lies_beyond_the_rows():
    columns = grid()
    table = table_of(columns, noisy(columns))
    inside = {"n_params": 1e8, "tokens": 1e9}
    assert extrapolation.beyond(table, inside) == {"n_params": 1, "tokens": 1, "flops": 1}
    assert extrapolation.notice(table, inside) == []
    beyond = extrapolation.beyond(table, {"n_params": 1e10, "tokens": 1e8})
    assert beyond == pytest.approx({"n_params": 10, "tokens": 0.5, "flops": 1})
    (near,) = extrapolation.notice(table, {"n_params": 1e10, "tokens": 2e10})
    assert near.kind == notices.EXTRAPOLATED and "10 times the largest N" in near.text
    (far,) = extrapolation.notice(table, {"n_params": 1e12, "tokens": 2e10})
    assert far.kind == notices.FAR_EXTRAPOLATION and "1e+03 times the largest C" in far.text


def test_few_blocks_are_named():
    columns = grid()
    table = table_of(columns, noisy(columns))
    blocks = checks.input_warnings(table, laws.FORMS["chinchilla"], None, 3)
    assert notices.FEW_DEGREES_OF_FREEDOM in kinds(blocks)
