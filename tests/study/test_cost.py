"""The forecast of a sweep's cost, and the limits that refuse it."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from scaling import accounting, cli, results
from scaling.config import load as config_lib
from scaling.study import budget, cost
from scaling.study.budget import Limit
from scaling.sweep.plan import planner
from scaling.training import benchmark
from scaling.training import loop as train_lib
from scaling.utils.errors import EXIT_BAD_INPUT, UserError
from tests.sweep.execute.test_progress import finish, train


@pytest.fixture
def sweep(config):
    """Four runs of 40 steps of 128 tokens, a checkpoint after each 16; two programs."""
    return config_lib.with_values(
        config,
        {
            "sweep.kind": "grid",
            "sweep.grid_keys": ("optim.lr", "model.depth"),
            "sweep.grid_values": ((1e-3, 3e-3), (1, 2)),
            "launch.price_per_device_hour": 36.0,
        },
    )


def size(**values) -> benchmark.Size:
    made = dict(
        width=16, depth=1, n_params=1, setup_seconds=7.0, step_seconds=0.128,
        tokens_per_second=1000.0, mfu=0.5, evaluation_seconds=0.25, checkpoint_seconds=0.5,
        checkpoint_bytes=1000,
    )  # fmt: skip
    return benchmark.Size(**made | values)


@pytest.fixture
def forecast(monkeypatch):
    """Measurements that take no time: 1,000 tokens per second at every size."""
    measured = []

    def fake(config):
        measured.append(config.model.depth)
        return size(depth=config.model.depth)

    monkeypatch.setattr(benchmark, "measure", fake)
    return measured


def check(config, text: str, workdir, **options) -> None:
    """Check a limit in the old spelling, as --budget takes it."""
    budget.check(config, [budget.parse(text)], workdir, **options)


def names(config) -> list[str]:
    return [s.run_id for s in cost.look(config, planner.plan(config), None).runs]


def test_a_measured_size_is_that_of_the_real_programs(config):
    measured = benchmark.measure(config)
    assert measured.tokens_per_second == pytest.approx(128 / measured.step_seconds)
    shape = accounting.shape_of(config)
    assert measured.n_params == accounting.param_counts(shape)["n_params"]
    assert 0 < measured.mfu < 1 and 0 < measured.step_seconds < measured.setup_seconds
    assert measured.evaluation_seconds > 0 and measured.checkpoint_seconds > 0
    # fp32 parameters and two moments; the files hold that and what describes it
    state = 4 * 3 * accounting.param_counts(shape)["n_params_total"]
    assert state < measured.checkpoint_bytes < state + 200_000


def test_a_run_leaves_as_much_on_disk_as_forecast(config, tmp_path):
    train_lib.train_run(config, tmp_path)

    def n_bytes(*patterns) -> int:
        paths = (p for pattern in patterns for p in tmp_path.glob(pattern) if p.is_file())
        return sum(p.stat().st_size for p in paths)

    each = benchmark.measure(config).checkpoint_bytes
    assert n_bytes("checkpoints/[0-9]*/**/*") == pytest.approx(2 * each, rel=0.1)
    assert n_bytes("metrics.jsonl", "tensorboard/*") == pytest.approx(10 * cost.ROW_BYTES, rel=0.25)


def test_every_size_is_measured_once_and_the_sums_are_right(sweep, forecast):
    runs = planner.plan(sweep)
    estimate = cost.forecast(sweep, runs, cost.look(sweep, runs, None))
    assert sorted(forecast) == [1, 2] and len(estimate.sizes) == 2
    assert estimate.runs == estimate.left == 4
    assert estimate.flops == estimate.flops_all == sum(r.flops for r in runs)
    # 5,120 tokens, one evaluation and 3 checkpoints (after 16, 32 and 40 steps) per run
    assert estimate.compile_seconds == 14
    assert estimate.seconds == pytest.approx(14 + 4 * (5.12 + 0.25 + 3 * 0.5))
    assert estimate.checkpoint_bytes == 4 * 2 * 1000
    assert estimate.log_bytes == 4 * 10 * cost.ROW_BYTES
    assert estimate.device_hours == pytest.approx(estimate.seconds / 3600)
    assert estimate.price == pytest.approx(estimate.seconds / 100)


def test_only_what_is_left_counts(sweep, forecast, tmp_path):
    runs, ids = planner.plan(sweep), names(sweep)
    depths = [r.config.model.depth for r in runs]
    for name in (n for n, d in zip(ids, depths, strict=True) if d == 1):
        finish(tmp_path, name)
    half = next(n for n, d in zip(ids, depths, strict=True) if d == 2)
    train(tmp_path, half, 2000)
    estimate = cost.forecast(sweep, runs, cost.look(sweep, runs, tmp_path))
    assert forecast == [2], "a size whose runs are all done is not measured"
    assert estimate.left == 2 and estimate.runs == 4
    assert estimate.flops == pytest.approx(runs[-1].flops * (2 - 2000 / 5120))
    assert estimate.run_seconds[half] == pytest.approx((5.12 + 1.5) * (1 - 2000 / 5120) + 0.25)


def test_evaluations_during_training_are_counted(sweep, forecast):
    often = config_lib.with_values(sweep, {"eval.every_tokens": 1024})
    runs = planner.plan(often)
    estimate = cost.forecast(often, runs, cost.look(often, runs, None))
    assert estimate.run_seconds[names(often)[0]] == pytest.approx(5.12 + 6 * 0.25 + 3 * 0.5)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("1e15", "flops", 1e15), ("2.5E9 FLOPs", "flops", 2.5e9), ("90s", "seconds", 90),
        ("30min", "seconds", 1800), ("30m", "seconds", 1800), ("2h", "seconds", 7200),
        ("1.5d", "seconds", 129_600),
        ("20usd", "money", 20), ("0.5 EUR", "money", 0.5),
    ],
)  # fmt: skip
def test_amounts(text, kind, value):
    limit = budget.parse(text)
    assert (limit.kind, limit.value) == (kind, value)


@pytest.mark.parametrize(
    "text", ["lots", "", "-3", "0", "1e999", "3 weeks", "1.2.3", "nan", "2h30"]
)
def test_a_wrong_amount_is_refused(text):
    with pytest.raises(UserError, match="no amount; give --flops=1e15"):
        budget.parse(text)


def test_a_budget_in_flops_refuses_with_the_numbers(sweep, tmp_path):
    runs = planner.plan(sweep)
    total, smallest = sum(r.flops for r in runs), min(r.flops for r in runs)
    check(sweep, f"{total * 1.001:.6g}", tmp_path)
    with pytest.raises(UserError, match=r"4 of 4 runs are left; together they need") as refused:
        check(sweep, f"{total * 0.999:.6g}", tmp_path)
    assert f"{total:.3g} FLOPs" in str(refused.value)
    with pytest.raises(UserError, match=r"; even the smallest, d16.* needs"):
        check(sweep, f"{smallest * 0.99:.6g}", tmp_path)
    for name in names(sweep)[:3]:
        finish(tmp_path, name)
    check(sweep, f"{runs[-1].flops * 1.001:.6g}", tmp_path)
    finish(tmp_path, names(sweep)[3])
    check(sweep, "1", tmp_path)  # nothing is left, nothing is refused
    held_out = config_lib.with_values(sweep, {"laws.holdout_factor": 3.0})
    check(held_out, "1", tmp_path, with_holdout=True)  # this kind of sweep has none


def test_budgets_of_time_and_money_are_measured(sweep, forecast, tmp_path):
    check(sweep, "42s", tmp_path)
    with pytest.raises(UserError, match="together they need 41 s"):
        check(sweep, "41s", tmp_path)
    check(sweep, "0.42usd", tmp_path)
    with pytest.raises(UserError, match=r"even the smallest, \S+, needs 0.07; .* 0.41;"):
        check(sweep, "0.01usd", tmp_path)


def test_several_limits_are_measured_once(sweep, forecast, tmp_path):
    total = sum(run.flops for run in planner.plan(sweep))
    limits = [
        Limit("flops", total * 1.001, "--flops=F"),
        Limit("seconds", 42, "--time=42s"),
        Limit("money", 0.42, "--usd=0.42"),
    ]
    budget.check(sweep, limits, tmp_path)
    assert sorted(forecast) == [1, 2]
    for i, flag in ((0, "--flops=F"), (1, "--time=42s"), (2, "--usd=0.42")):
        small = [*limits]
        small[i] = dataclasses.replace(limits[i], value=limits[i].value / 2)
        with pytest.raises(UserError, match=rf"^{flag}: 4 of 4 runs are left; "):
            budget.check(sweep, small, tmp_path)


def test_the_held_out_run_counts_where_it_will_be_trained(tmp_path):
    config = config_lib.load("configs/mini.py")
    total = sum(r.flops for r in planner.plan(config))
    more = config.laws.holdout_factor * max(config.sweep.budgets)
    text = f"{total + more / 2:.6g}"
    check(config, text, tmp_path)
    with pytest.raises(UserError, match="and the held-out run; together they need"):
        check(config, text, tmp_path, with_holdout=True)
    for run in planner.plan(config):
        finish(tmp_path, run.run_id)
    with pytest.raises(UserError, match=r"the held-out run is left and needs 2\.4e\+10 FLOPs"):
        check(config, f"{more * 0.99:.6g}", tmp_path, with_holdout=True)
    rows, _ = results.collect(tmp_path)
    seconds = more * sum(r.wall_time for r in rows) / sum(r.flops_spent for r in rows)
    check(config, f"{seconds * 1.01:.6g}s", tmp_path, with_holdout=True)
    with pytest.raises(UserError, match=r"the held-out run is left and needs .* years;"):
        check(config, f"{seconds * 0.99:.6g}s", tmp_path, with_holdout=True)
    finish(tmp_path, "held-out", role="holdout")
    check(config, text, tmp_path, with_holdout=True)


def test_plan_measures_prints_and_writes(capsys, forecast, tmp_path):
    workdir = tmp_path / "w"
    args = ("plan", "--config=configs/mini.py", "--measure", f"--workdir={workdir}")
    code = cli.main([*args, "--config.launch.price_per_device_hour=3.6"])
    out = capsys.readouterr().out
    assert code == 0 and "18 of 18 runs left" in out and "at the price given" in out
    written = json.loads((workdir / "cost.json").read_text())
    assert written["left"] == 18 and len(written["sizes"]) == len(forecast) == 6
    assert written["price"] == pytest.approx(written["seconds"] / 1000)
    assert math.isclose(
        sum(written["run_seconds"].values()) + written["compile_seconds"], written["seconds"]
    )
    assert written["commit"] and "jax" in written["versions"]
    assert [p.name for p in workdir.iterdir()] == ["cost.json"], "planning begins no sweep"
    for limit in ("--budget=5min", "--time=5m"):
        assert cli.main([*args, limit]) == EXIT_BAD_INPUT
        assert "18 of 18 runs are left" in capsys.readouterr().err


def test_a_budget_does_not_hide_a_foreign_workdir(mini):
    other = config_lib.load("configs/mini.py", ["--config.optim.weight_decay=0.3"])
    with pytest.raises(UserError, match=r"belongs to another sweep.*optim\.weight_decay"):
        check(other, "1", mini)
