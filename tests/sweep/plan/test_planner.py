"""Test plans, which are pure functions of a config, without training."""

from __future__ import annotations

import pytest

from scaling import accounting
from scaling.config import load as config_lib
from scaling.sweep.plan import ladder, planner
from scaling.utils.errors import UserError
from tests.common import run_python


def python_text(**values):
    changes = {k.replace("__", "."): v for k, v in values.items()}
    return config_lib.with_values(config_lib.load("configs/python_text.py"), changes)


def test_quickstart_is_the_documented_sweep():
    runs = planner.plan(config_lib.load("configs/quickstart.py"))
    budgets = sorted({r.budget for r in runs})
    assert len(runs) == 50 and len(budgets) == 5
    assert budgets[-1] / budgets[0] == 16
    for budget in budgets:
        assert len({r.n_params for r in runs if r.budget == budget}) >= 5


def test_runs_spend_their_budget_to_within_a_step():
    for run in planner.plan(python_text()):
        shape = accounting.shape_of(run.config)
        step = accounting.flops_per_token(shape, "exact") * config_lib.tokens_per_step(run.config)
        assert run.budget - step < run.flops <= run.budget


def test_a_plan_is_the_same_in_every_process():
    """The order of Python's sets differs between processes and must not matter."""
    done = run_python(
        "from scaling.config import load as config\nfrom scaling.sweep.plan import planner\n"
        "print(*[r.run_id for r in planner.plan(config.load('configs/python_text.py'))])",
        env={"PYTHONHASHSEED": "7"},
    )
    assert done.stdout.split() == [r.run_id for r in planner.plan(python_text())], done.stderr


def test_rates_follow_the_rule():
    config = python_text()
    for run in planner.plan(config):
        expected = config.sweep.lr_coefficient * run.n_params**-config.sweep.lr_n_exponent
        assert run.config.optim.lr == pytest.approx(expected, rel=1e-5)


def test_ladder_follows_its_ratios():
    config = python_text(sweep__min_depth=1, sweep__heads=0, sweep__width_multiple=16)
    for rung in ladder.ladder(config):
        assert rung.width % 16 == 0 and rung.shape.mlp_width == 4 * rung.width
        assert rung.shape.depth == max(1, round(rung.width / config.sweep.aspect_ratio))
        assert rung.shape.head_dim == config.model.head_dim
    sizes = [r.n_params for r in ladder.ladder(config)]
    assert sizes == sorted(set(sizes))


def test_seeds_repeat_every_run():
    one, three = planner.plan(python_text()), planner.plan(python_text(sweep__seeds=(0, 1, 2)))
    assert len(three) == 3 * len(one)
    assert {r.config.seed for r in three} == {0, 1, 2}


def test_params_sweep_has_one_length_and_data_sweep_one_size():
    params = planner.plan(python_text(sweep__kind="params", sweep__tokens=(500_000,)))
    assert len({r.tokens for r in params}) == 1
    assert len({r.n_params for r in params}) == len(params) > 3
    data = planner.plan(python_text(sweep__kind="data", sweep__tokens=(100_000, 200_000, 400_000)))
    assert len({r.n_params for r in data}) == 1 and len({r.tokens for r in data}) == 3


def test_grid_is_the_product_of_its_values():
    config = python_text(
        sweep__kind="grid", sweep__grid_keys=("optim.lr", "seed"),
        sweep__grid_values=((1e-3, 2e-3), (0, 1, 2)),
    )  # fmt: skip
    runs = planner.plan(config)
    assert {(r.config.optim.lr, r.config.seed) for r in runs} == {
        (lr, seed) for lr in (1e-3, 2e-3) for seed in (0, 1, 2)
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sweep__budgets": (1e5,)}, "do not pay for one step"),
        ({"sweep__budgets": (-1.0,)}, "should be positive"),
        ({"sweep__budgets": ()}, "no runs"),
        ({"sweep__budgets": (1e11, 1e11)}, "duplicates"),
        ({"sweep__seeds": (0, 0)}, "duplicates"),
        ({"sweep__seeds": ()}, "sweep.seeds is empty"),
        ({"sweep__rungs": 6}, "distinct rungs"),
        ({"sweep__width_ratio": 1.01, "sweep__rungs": 4}, "raise width_ratio"),
        ({"sweep__kind": "none"}, "is no sweep"),
        ({"sweep__kind": "params"}, None),
        ({"sweep__kind": "params", "sweep__tokens": (1, 2)}, "one run length"),
        ({"sweep__kind": "grid", "sweep__grid_keys": ("optim.lrr",),
          "sweep__grid_values": ((1.0,),)}, "did you mean config.optim.lr"),
    ],
)  # fmt: skip
def test_impossible_plans_name_the_key(values, message):
    if message is None:
        assert planner.plan(python_text(**values))
        return
    with pytest.raises(UserError) as caught:
        planner.plan(python_text(**values))
    assert message in str(caught.value) and "\n" not in str(caught.value)
