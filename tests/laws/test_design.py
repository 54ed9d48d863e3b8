"""Experiment design: the proposal keeps its limits and beats an IsoFLOP grid of equal cost."""

import numpy as np
import pytest

from scaling.laws import api as laws
from scaling.laws import design
from scaling.laws.forms.registry import FORMS
from scaling.laws.table import make_table
from scaling.utils.errors import UserError

A, B, E, ALPHA, BETA = 478.0, 2143.0, 1.82, 0.347, 0.367
DEAREST = 3e20
TARGETS = [design.Target(10 * DEAREST), design.Target(100 * DEAREST)]


def truth() -> design.Prior:
    params = np.array([[np.log(A), np.log(B), np.log(E), ALPHA, BETA]])
    return design.Prior(FORMS["chinchilla"], params)


def isoflop_grid():
    scale = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    flops = np.repeat(DEAREST / 10 ** (0.5 * np.arange(6)), 8)
    n = scale * (flops / 6) ** (BETA / (ALPHA + BETA)) * 10 ** np.tile(np.linspace(-0.5, 0.5, 8), 6)
    return make_table(n_params=n, tokens=flops / (6 * n), flops=flops)


def runs(proposal):
    return make_table(n_params=proposal.n_params, tokens=proposal.tokens, flops=proposal.flops)


def ask(belief, grid, **changes):
    options = {"total_flops": grid.flops.sum(), "max_runs": len(grid), "max_flops": DEAREST}
    return design.propose(belief, TARGETS, **options | changes)


def test_proposal_from_published_laws_alone_is_narrower_than_the_grid_within_its_limits():
    grid = isoflop_grid()
    found = ask(design.Prior.published(flops=1e20), grid)
    assert len(found.flops) <= len(grid)
    assert found.flops.sum() <= grid.flops.sum() * (1 + 1e-12)
    assert found.flops.max() <= DEAREST * (1 + 1e-12)
    np.testing.assert_allclose(6 * found.n_params * found.tokens, found.flops, rtol=1e-12)
    before = design.expected_se(truth(), TARGETS, grid)
    after = design.expected_se(truth(), TARGETS, runs(found))
    assert before[TARGETS[0]] / after[TARGETS[0]] > 1.6
    assert before[TARGETS[1]] / after[TARGETS[1]] > 1.9


@pytest.mark.slow
def test_expected_error_is_that_of_refits():
    grid = isoflop_grid()
    found = runs(ask(truth(), grid))
    rng = np.random.default_rng(0)
    clean = E + A * found.n_params**-ALPHA + B * found.tokens**-BETA
    scale = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
    n = scale * (TARGETS[0].flops / 6) ** (BETA / (ALPHA + BETA))
    d = TARGETS[0].flops / (6 * n)
    logs = []
    for _ in range(30):
        noisy = found.with_columns(loss=clean * np.exp(0.003 * rng.standard_normal(len(clean))))
        law = laws.fit(noisy, bootstrap=2, objective=laws.Objective("least_squares"))
        logs.append(np.log(law.predict(n, d)))
    expected = 0.003 * design.expected_se(truth(), TARGETS, found)[TARGETS[0]]
    assert np.std(logs) == pytest.approx(expected, rel=0.4)  # a standard deviation of 30: +-13%


def test_runs_already_done_are_not_proposed_again():
    grid = isoflop_grid()
    first = runs(ask(truth(), grid, max_runs=24, total_flops=grid.flops.sum() / 2))
    second = ask(
        truth(), grid, max_runs=24, total_flops=grid.flops.sum() - first.flops.sum(), done=first
    )
    both = make_table(
        n_params=np.r_[first.n_params, second.n_params], tokens=np.r_[first.tokens, second.tokens]
    )
    whole = runs(ask(truth(), grid))
    for target in TARGETS:
        in_rounds = design.expected_se(truth(), TARGETS, both)[target]
        assert in_rounds == pytest.approx(second.se[target], rel=1e-4)
        assert in_rounds < 1.1 * design.expected_se(truth(), TARGETS, whole)[target]


def test_a_fit_is_a_belief_and_n_opt_a_target():
    grid = isoflop_grid()
    loss = E + A * grid.n_params**-ALPHA + B * grid.tokens**-BETA
    rng = np.random.default_rng(1)
    law = laws.fit(
        grid.with_columns(loss=loss * np.exp(0.003 * rng.standard_normal(len(loss)))), bootstrap=50
    )
    target = design.Target(10 * DEAREST, "n_opt")
    found = design.propose(
        law, target, total_flops=grid.flops.sum(), max_runs=48, max_flops=DEAREST
    )
    grid_se = design.expected_se(truth(), [target], grid)[target]
    assert design.expected_se(truth(), [target], runs(found))[target] < grid_se / 1.6


def test_weights_of_beliefs_are_shares():
    grid = isoflop_grid()
    one = ask(truth(), grid, max_runs=12)
    twice = ask([truth(), truth()], grid, max_runs=12)
    assert twice.se[TARGETS[0]] == pytest.approx(one.se[TARGETS[0]], rel=1e-6)
    both = laws.mean_se([truth(), truth()], TARGETS, runs(one))
    assert both[TARGETS[0]] == pytest.approx(one.se[TARGETS[0]], rel=1e-4)


def test_the_grid_to_compare_with_stands_on_the_optimum_and_keeps_the_limits():
    found = laws.isoflop_grid([truth()], runs=24, total_flops=1e21, max_flops=DEAREST)
    assert len(found) == 24 and len(np.unique(found.budget)) == 3
    assert found.flops.sum() == pytest.approx(1e21)
    for budget in np.unique(found.budget):
        n = found.n_params[found.budget == budget]
        scale = (ALPHA * A / (BETA * B)) ** (1 / (ALPHA + BETA))
        centre = scale * (budget / 6) ** (BETA / (ALPHA + BETA))
        assert np.exp(np.log(n).mean()) == pytest.approx(centre) and n.max() / n.min() > 9.99
    capped = laws.isoflop_grid([truth()], runs=24, total_flops=1e21, max_flops=1e19)
    assert capped.flops.max() == pytest.approx(1e19)
    assert laws.isoflop_grid([truth()], runs=5, total_flops=1e21, max_flops=DEAREST) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_runs": 3}, "max_runs=3 cannot determine the 5 parameters"),
        ({"total_flops": 1e15}, "cost more than total_flops"),
        ({"min_flops": 1e21}, "must lie below max_flops"),
        ({"tokens_per_param": (20.0, 2.0)}, "tokens_per_param"),
    ],
)
def test_impossible_requests_say_what_to_change(changes, message):
    with pytest.raises(UserError, match=message):
        ask(truth(), isoflop_grid(), **changes)


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="target quantity 'd_opt' is unknown"):
        design.Target(1e21, "d_opt")
