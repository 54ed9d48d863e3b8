"""Compute-equivalent gain: the analytic one for known laws, infinite below a floor, 1 for equal
families.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws.api import FORMS
from scaling.laws.closed_form import closed_form, floor_and_power
from scaling.laws.multistart import log_prediction
from scaling.laws.table import CannotFit, make_table
from scaling.utils import notices

A, B, E, ALPHA, BETA = 400.0, 900.0, 1.7, 0.35, 0.37
GAMMA = ALPHA * BETA / (ALPHA + BETA)


def family(scale=1.0, floor=E, noise=0.0, seed=0):
    """An IsoFLOP sweep of floor + scale * (A N^-alpha + B D^-beta)."""
    rng = np.random.default_rng(seed)
    c = np.repeat(np.geomspace(1e17, 1e20, 4), 9)
    n = 0.3 * (c / 6) ** 0.51 * np.tile(np.geomspace(0.3, 3, 9), 4)
    d = c / (6 * n)
    loss = floor + scale * (A * n**-ALPHA + B * d**-BETA)
    loss = loss * np.exp(noise * rng.standard_normal(len(n)))
    return make_table(n_params=n, tokens=d, flops=c, budget=c, loss=loss)


@functools.cache
def fitted(*args, bootstrap=100, **options):
    return laws.fit(family(*args, **options), bootstrap=bootstrap)


def test_one_factor_on_both_terms_is_one_gain_at_all_computes():
    found = laws.compute_equivalent_gain(fitted(), fitted(0.8), [1e18, 1e20, 1e24])
    known = 0.8 ** (-1 / GAMMA)
    assert [g.value for g in found.gain] == pytest.approx([known] * 3, rel=1e-4)
    assert found.slope.value == pytest.approx(0, abs=1e-5)
    assert "no dependence" in found.scale and found.verdict == "good" and not found.warnings
    assert found.laws["baseline"]["gamma"].value == pytest.approx(GAMMA, rel=1e-4)


def test_a_lower_floor_gives_a_gain_that_grows_until_it_is_infinite():
    found = laws.compute_equivalent_gain(fitted(), fitted(floor=1.6), [1e18, 1e20, 1e24])
    k = float(np.exp(floor_and_power("chinchilla", np.array([[A, B, E, ALPHA, BETA]]), 6.0)[0, 1]))
    for i, c in enumerate((1e18, 1e20)):
        above = 1.6 + k * c**-GAMMA - E
        assert found.gain[i].value == pytest.approx((above / k) ** (-1 / GAMMA) / c, rel=1e-3)
    assert np.isinf(found.gain[2].value) and found.never.tolist() == [0, 0, 1]
    (warning,) = found.warnings
    assert warning.kind == notices.INFINITE_GAIN and "1e+24 FLOPs" in warning.text
    assert "below the baseline's floor E = 1.7" in warning.text
    assert "100% of the refits" in warning.text
    beyond = laws.compute_equivalent_gain(fitted(), fitted(floor=1.6), [1e24])
    assert "infinite within these computes" in beyond.scale
    near = laws.compute_equivalent_gain(fitted(), fitted(floor=1.6), [1e18, 1e20])
    assert near.slope.low > 0 and "grows with compute" in near.scale
    worse = laws.compute_equivalent_gain(fitted(floor=1.6), fitted(), [1e18, 1e20])
    assert worse.gain[0].value < 1 and "shrinks" in worse.scale


def test_equal_families_gain_nothing_within_the_interval():
    inside = 0
    for seed in range(4):
        pair = [fitted(noise=0.002, seed=s, bootstrap=100) for s in (seed, seed + 100)]
        (gain,) = laws.compute_equivalent_gain(*pair, [1e19]).gain
        inside += gain.low <= 1 <= gain.high
    assert inside >= 3  # fewer of 4 has a chance of 5 in 100; the seeds are fixed


def test_a_share_of_refits_that_never_get_there_is_said():
    pair = [fitted(s, noise=0.006, seed=i, bootstrap=200) for i, s in enumerate((1, 0.8))]
    found = laws.compute_equivalent_gain(*pair, [1e19, 1e26])
    assert 0 < found.never[1] < 1 and np.isinf(found.gain[1].high)
    assert found.verdict == "weakly identified"
    assert any(f"{found.never[1]:.0%} of the refits" in w.text for w in found.warnings)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("chinchilla", (A, B, E, ALPHA, BETA)),
        ("chinchilla_tied", (A, B, E, ALPHA)),
        ("kaplan", (8.8e13, 5.4e13, 0.076, 0.095)),
        ("over_training", (200.0, 370.0, 1.8, 0.136)),
    ],
)
@pytest.mark.parametrize("k", [6.0, 7.5])
def test_the_law_of_the_optimum_is_the_lowest_loss_at_that_compute(name, values, k):
    natural = np.array([values])
    form = FORMS[name]
    floor, log_k, gamma = floor_and_power(name, natural, k)[0]
    n = np.geomspace(1e4, 1e14, 20_001)
    internal = form.internal(natural)
    for c in (1e18, 1e23):
        d = c / (k * n)
        second = d / n if name == "over_training" else d
        lowest = log_prediction(form, internal, np.log(np.stack([n, second], axis=1)))[0].min()
        assert floor + np.exp(log_k) * c**-gamma == pytest.approx(float(np.exp(lowest)), rel=1e-6)
    if name != "over_training":
        n_opt, d_opt = closed_form(name, natural, 1e18)
        assert n_opt * d_opt == pytest.approx(1e18)


def test_laws_of_compute_alone():
    def of_compute(scale):
        c = np.geomspace(1e17, 1e21, 12)
        return laws.fit(
            make_table(x=c, loss=1.7 + scale * 1600 * c**-0.18), "power_offset", bootstrap=100
        )

    found = laws.compute_equivalent_gain(of_compute(1.0), of_compute(0.8), [1e19])
    assert found.gain[0].value == pytest.approx(0.8 ** (-1 / 0.18), rel=1e-3)


def test_isoflop_laws_lack_a_floor_and_it_is_said():
    pair = [laws.fit_isoflop(family(s), bootstrap=20) for s in (1.0, 0.8)]
    found = laws.compute_equivalent_gain(*pair, [1e18, 1e20])
    at = [p.frontier for p in pair]
    needed = (at[1].predict(1e18) / at[0].coefficient.value) ** (1 / at[0].exponent.value)
    assert found.gain[0].value == pytest.approx(needed / 1e18)
    assert found.verdict == "doubtful" and any(w.kind == notices.NO_FLOOR for w in found.warnings)


def test_refusals():
    with pytest.raises(CannotFit, match="shifted_power has no compute-optimal loss"):
        floor_and_power("shifted_power", np.ones((1, 4)), 6.0)
    with pytest.raises(CannotFit, match="flops must be positive"):
        laws.compute_equivalent_gain(fitted(), fitted(), [-1.0])
    rising = laws.fit_power([1.0, 2.0, 4.0], [1.0, 1.1, 1.2])
    with pytest.raises(CannotFit, match="baseline family's loss does not fall"):
        laws.compute_equivalent_gain(rising, fitted(), [1e19])
