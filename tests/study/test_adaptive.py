"""Compute sweeps that add sizes where a budget's best size is at an edge."""

from __future__ import annotations

import types

import pytest

from scaling import cli, results
from scaling.config import load as config_lib
from scaling.study import adaptive
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.utils.errors import UserError
from tests.common import ROOT, flags

THREE = {  # of seven rungs, all in the middle
    "sweep.adaptive": True,
    "sweep.adaptive_share": 9.0,
    "sweep.budgets": (8e8, 2.4e9),
    "sweep.sizes_per_budget": 3,
    "laws.holdout_factor": 0.0,
}


def of_mini(**values):
    values = {key.replace("__", "."): value for key, value in values.items()}
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")), {**THREE, **values}
    )


def rows(config, best):
    """Return results of all planned runs whose losses are lowest at `best` parameters."""
    return [
        types.SimpleNamespace(
            run_id=run.run_id, status="done", n_params=run.n_params, budget=run.budget,
            tokens=run.tokens, loss=2 + abs(run.n_params / best - 1),
        )
        for run in planner.plan(config)
    ]  # fmt: skip


def sizes(config):
    return [
        sorted(run.n_params for run in planner.plan(config) if run.budget == budget)
        for budget in config.sweep.budgets
    ]


@pytest.mark.parametrize("side", ["low", "high"])
def test_sizes_are_added_until_the_best_lies_between_two(side):
    config = of_mini()
    ladder = sizes(of_mini(sweep__sizes_per_budget=7, sweep__adaptive=False))[0]
    best = ladder[1] if side == "low" else ladder[-2]
    first, reasons = sizes(config), []
    while widened := adaptive.wider(config, rows(config, best)):
        config, why = widened
        reasons.append(why)
    for before, after in zip(first, sizes(config), strict=True):
        assert set(before) < set(after) and min(after) < best < max(after)
        other = min if side == "high" else max  # the other side is as before
        assert other(before) == other(after)
    which = {"low": "smallest", "high": "largest"}[side]
    assert reasons[0] == (
        f"the {which} size was the best at 8e+08 FLOPs; the {which} size was the best at 2.4e+09 "
        "FLOPs"
    )


def test_an_edge_that_cannot_be_passed_is_named(caplog):
    config = of_mini(sweep__sizes_per_budget=7)
    assert adaptive.wider(config, rows(config, 1e9)) is None
    assert "not widened: config.sweep.extra_sizes: at 8e+08 FLOPs the ladder has no" in caplog.text
    caplog.clear()
    config = of_mini(sweep__adaptive_share=0.01)
    assert adaptive.wider(config, rows(config, 1e9)) is None
    assert "more than config.sweep.adaptive_share=0.01 of the first plan's" in caplog.text
    assert adaptive.wider(of_mini(sweep__adaptive=False), []) is None


@pytest.mark.parametrize("stated", [(), ((8e8, 1),)])
def test_the_same_command_goes_on_with_the_sizes_that_were_added(stated, tmp_path):
    config = of_mini(sweep__extra_sizes=stated)
    sweep_json.create_or_check(config, tmp_path)
    more = of_mini(sweep__extra_sizes=(*stated, (2.4e9, -1)))
    sweep_json.grow(more, tmp_path, {"added": [], "removed": []})
    assert sweep_json.adopted(config, tmp_path).sweep.extra_sizes == more.sweep.extra_sizes
    other = of_mini(sweep__extra_sizes=((8e8, 2),))
    assert sweep_json.adopted(other, tmp_path).sweep.extra_sizes == ((8e8, 2),)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sweep__extra_sizes": ((1e9, 1),)}, r"extra_sizes: \(1000000000.0, 1\) should be a bud"),
        ({"sweep__extra_sizes": ((8e8, 0.5),)}, r"extra_sizes: \(800000000.0, 0.5\) should be a"),
        (
            {"sweep__extra_sizes": ((8e8, -9),)},
            "no 9 rungs below the planned sizes; lower .*min_width=8",
        ),
        (
            {"sweep__extra_sizes": ((8e8, 9),)},
            "no 9 rungs above the planned sizes; raise .*rungs=8",
        ),
        ({"sweep__kind": "ladder"}, "adaptive: sizes are added at a budget, so only in"),
    ],
)
def test_bad_values_are_one_line(values, words):
    with pytest.raises(UserError, match=words):
        planner.plan(of_mini(**values))


@pytest.mark.slow
def test_a_sweep_widens_and_the_same_command_trains_nothing_more(tmp_path, capsys, caplog):
    """Five steps of the smallest models: the smallest size is the best, as the longest trained."""
    values = {**THREE, "sweep.budgets": "(1.5e8,)", "sweep.seeds": "(0,)", "eval.tokens": 2048}
    command = ["sweep", f"--config={ROOT}/configs/mini.py", f"--workdir={tmp_path}", *flags(values)]
    assert cli.main(command) == 0
    table, _ = results.read_table(tmp_path / "runs.csv")
    added = [r for r in table if r.added]
    history = sweep_json.history(tmp_path)
    assert len(table) == 3 + len(added) and 1 <= len(added) == len(history)
    assert {r.added for r in added} <= {entry["why"] for entry in history}
    losses = {r.n_params: r.loss for r in table}
    best = min(losses, key=losses.__getitem__)
    inside = min(losses) < best < max(losses)
    assert inside or "the ladder has no" in caplog.text
    before = (tmp_path / "runs.csv").read_bytes(), (tmp_path / "sweep.json").read_bytes()
    assert cli.main(command) == 0
    assert before == ((tmp_path / "runs.csv").read_bytes(), (tmp_path / "sweep.json").read_bytes())
    capsys.readouterr()
    assert cli.main(["plan", *command[1:]]) == 0
    assert f"{len(table)} of {len(table)} runs are done" in capsys.readouterr().out
