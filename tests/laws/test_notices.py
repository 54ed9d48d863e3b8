"""Notices: verdicts follow from kinds, never from the wording of a text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws import checks, diagnose, to_text
from scaling.laws.table import make_table
from scaling.utils import notices
from scaling.utils.notices import Kind, Notice
from tests.common import ROOT
from tests.laws.test_gain import family
from tests.laws.test_lr_batch import grids

KINDS = {name: kind for name, kind in vars(notices).items() if isinstance(kind, Kind)}


@pytest.fixture
def reworded(monkeypatch):
    """Every notice loses its text, as if all of them read otherwise; returns the kinds created."""
    kinds = []

    def create(self, kind, text):
        kinds.append(kind)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "text", "")

    monkeypatch.setattr(Notice, "__init__", create)
    return kinds


def test_verdicts_without_texts(reworded):
    def power_law(points, seeds, form, bootstrap):
        x = np.repeat(np.geomspace(1e17, 1e20, points), seeds)
        noise = np.exp(1e-3 * np.random.default_rng(0).standard_normal(len(x)))
        return laws.fit(
            make_table(x=x, loss=(1.7 + 4e4 * x**-0.3) * noise), form, bootstrap=bootstrap
        )

    good = power_law(20, 1, "power_offset", bootstrap=100)
    assert good.verdict == "good"
    assert power_law(2, 3, "power", bootstrap=100).verdict == "weakly identified"
    assert power_law(20, 1, "power", bootstrap=0).verdict == "weakly identified"
    assert power_law(20, 1, "power", bootstrap=100).verdict == "doubtful"
    twice = family().rows(np.r_[0:36, 0:3])
    assert diagnose.verdict(checks.odd_rows(twice)) == "doubtful"
    isoflop = laws.fit_isoflop(family(), bootstrap=100)
    assert to_text.isoflop(isoflop, family())["verdict"] == "good"
    narrow = family().with_columns(budget=family().budget ** 0.3)
    profiles = laws.fit_isoflop(narrow, bootstrap=100)
    assert to_text.isoflop(profiles, narrow)["verdict"] == "doubtful"
    assert laws.compute_equivalent_gain(good, good, [1e18]).verdict == "good"
    few = laws.fit_isoflop(family(), bootstrap=5)
    assert to_text.isoflop(few, family())["verdict"] == "doubtful"  # of the number of refits
    assert laws.compute_equivalent_gain(few, few, [1e18]).verdict == "doubtful"
    assert laws.fit_optimum_of(grids(0.001), "lr", bootstrap=100).verdict == "good"
    assert laws.fit_optimum_of(grids(0.001), "lr", bootstrap=0).verdict == "weakly identified"
    assert set(reworded) >= {
        notices.NO_INTERVALS, notices.NO_DEGREES_OF_FREEDOM, notices.STRUCTURED_RESIDUALS,
        notices.DUPLICATE_ROWS, notices.NARROW_COMPUTE, notices.NO_FLOOR,
    }  # fmt: skip


def test_every_kind_has_one_name_and_a_use():
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS) > 40
    source = "\n".join(p.read_text() for p in sorted((ROOT / "scaling").rglob("*.py")))
    for constant, kind in KINDS.items():
        assert kind.name == constant.lower()
        assert kind.severity in (notices.WEAK, notices.DOUBT, notices.NOTE)
        assert re.search(rf"\bnotices\.{constant}\b", source), f"{constant} is never used"


@pytest.mark.parametrize(
    ("kinds", "verdict"),
    [
        ((), "good"),
        ((notices.REPEATED_DATA,), "good"),
        ((notices.REPEATED_DATA, notices.MIXED_UNITS), "doubtful"),
        ((notices.MIXED_UNITS, notices.NOT_IDENTIFIED), "weakly identified"),
    ],
)
def test_the_worst_severity_decides(kinds, verdict):
    assert diagnose.verdict([Notice(kind, "good") for kind in kinds]) == verdict


def test_json_lists_kinds_beside_texts():
    x = np.geomspace(1e17, 1e20, 8)
    table = make_table(
        x=x, loss=3 * x**-0.1, warnings=[Notice(notices.MIXED_UNITS, "two units")],
        excluded=[Notice(notices.UNREADABLE_CELL, "row 9: loss='x' is not a number")],
    )  # fmt: skip
    law = to_text.fitted(laws.fit(table, "power", bootstrap=100), table)
    assert law["excluded"] == ["row 9: loss='x' is not a number"]
    assert law["excluded_kinds"] == ["unreadable_cell"]
    assert law["warnings"][0] == "two units" and law["warning_kinds"][0] == "mixed_units"
    assert len(law["warnings"]) == len(law["warning_kinds"])


def test_a_subject_stands_before_the_text():
    notice = Notice(notices.NO_FLOOR, "no floor").about("baseline")
    assert str(notice) == "baseline: no floor" and notice.kind == notices.NO_FLOOR
