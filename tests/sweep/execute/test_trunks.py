"""Test that shared trunks give the losses of separate runs for fewer FLOPs."""

from __future__ import annotations

import pytest

from scaling.config import load as config_lib
from scaling.sweep.execute import jobs, runner
from scaling.sweep.plan import planner
from tests.common import ROOT, STEP, TINY

SAME = (
    "run_id",
    "loss",
    "loss_se",
    "bits_per_byte",
    "train_loss",
    "tokens",
    "flops_exact",
    "status",
)


@pytest.fixture
def horizons(cache):
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {
            **TINY,
            "sweep.kind": "data",
            "sweep.tokens": tuple(STEP * n for n in (48, 68, 96, 136)),
            "optim.schedule": "wsd",
            "optim.warmup_tokens": STEP * 8,
            "launch.pack": 1,
        },
    )


def columns(outcome, names):
    return [[getattr(r, name) for name in names] for r in outcome.results]


def test_shared_trunks_give_the_losses_of_separate_runs_to_the_bit(horizons, tmp_path):
    runs = planner.plan(horizons)
    shared = runner.sweep(runs, tmp_path / "shared")
    apart = config_lib.with_values(horizons, {"launch.share_trunks": False})
    separate = runner.sweep(planner.plan(apart), tmp_path / "apart")
    assert not shared.problems and not separate.problems
    assert columns(shared, SAME) == columns(separate, SAME)
    trunk = next(r for r in shared.results if not r.trunk)
    assert trunk.tokens == STEP * 136 and {r.trunk for r in shared.results} == {"", trunk.run_id}
    for run in runs:
        ours, theirs = (
            (runner.run_dir(tmp_path / w, run) / "metrics.jsonl").read_text()
            for w in ("shared", "apart")
        )
        assert ours == theirs
    # the table has the cost of each run, which equals the plan's
    planned = jobs.runs_by_id(runs)
    for row in shared.results:
        assert row.flops_spent == pytest.approx(planned[row.run_id].flops)
    spent, alone = (
        sum(getattr(r, c) for r in shared.results) for c in ("flops_spent", "flops_exact")
    )
    assert spent == pytest.approx(sum(p.flops for p in planned.values())) and spent < 0.6 * alone
    assert all(r.flops_spent == pytest.approx(r.flops_exact) for r in separate.results)


def test_forks_of_a_diverging_trunk_diverge_and_short_runs_end(horizons, tmp_path):
    """The rate rises so slowly that only the longest runs reach a diverging rate."""
    wild = config_lib.with_values(
        horizons, {"optim.lr": 1e24, "optim.warmup_tokens": STEP * 60, "optim.weight_decay": 0.0,
                   "sweep.tokens": (STEP * 96, STEP * 136)},
    )  # fmt: skip
    outcome = runner.sweep(planner.plan(wild), tmp_path)
    assert {r.status for r in outcome.results} == {"diverged"}
    assert all("at step" in r.reason for r in outcome.results)


def test_a_pack_of_forks_and_a_pack_of_trunks(horizons, tmp_path):
    values = {"sweep.seeds": (0, 1), "launch.pack": 4}
    runs = planner.plan(config_lib.with_values(horizons, values))
    outcome = runner.sweep(runs, tmp_path / "packed")
    assert not outcome.problems and len(outcome.results) == 8
    assert sorted(r.packed for r in outcome.results) == [2, 2, 2, 2, 4, 4, 4, 4]
    alone = runner.sweep(planner.plan(horizons), tmp_path / "alone")
    ours = {r.run_id: r.loss for r in outcome.results}
    for row in alone.results:
        assert ours[row.run_id] == pytest.approx(row.loss, rel=1e-4)
