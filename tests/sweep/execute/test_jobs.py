"""Test jobs: which runs share a trunk or a program, and the savings."""

from __future__ import annotations

import math

import pytest

from scaling.config import load as config_lib
from scaling.sweep.execute import jobs
from scaling.sweep.plan import planner
from tests.common import ROOT, STEP, TINY


def sweep(lengths, **values):
    base = {
        **TINY,
        "sweep.kind": "data",
        "sweep.tokens": tuple(STEP * n for n in lengths),
        "optim.schedule": "wsd",
        "optim.warmup_tokens": STEP * 20,
        "optim.decay_fraction": 0.2,
    }
    config = config_lib.load(str(ROOT / "configs" / "mini.py"))
    return planner.plan(config_lib.with_values(config, {**base, **values}))


def share(runs) -> float:
    """Return the steps trained with shared trunks over the steps of separate runs."""
    parts = jobs.job_runs(runs, share_trunks=True)
    return sum(p.steps for p in parts) / sum(r.steps for r in runs)


@pytest.mark.parametrize(
    ("lengths", "most"),
    [
        ([round(2000 / math.sqrt(2) ** k) for k in range(8)], 0.55),
        ([200 * k for k in range(1, 11)], 0.40),
    ],
)
def test_savings_follow_the_horizons(lengths, most):
    """A trunk to the longest decay and 20% of every run cost 0.45 and 0.35 of separate runs."""
    runs = sweep(lengths)
    longest, total = max(lengths), sum(lengths)
    ideal = (0.8 * longest + 0.2 * total) / total
    assert ideal <= share(runs) <= ideal + 4 * len(lengths) / total <= most
    trunk, *forks = jobs.job_runs(runs, share_trunks=True)
    assert trunk.run.steps == longest and not trunk.trunk
    assert trunk.keep_steps == tuple(sorted(f.fork_step for f in forks))
    for fork in forks:
        assert fork.trunk == trunk.run.run_id and fork.fork_step % 4 == 0
        assert 0 <= 0.8 * fork.run.steps - fork.fork_step < 5
    assert share(sweep(lengths)) < 1 == len(jobs.job_runs(runs, False)) / len(runs)


@pytest.mark.parametrize(
    "values",
    [
        {"optim.schedule": "cosine"},  # depends on its length from the first step
        {"optim.warmup_tokens": 0, "optim.warmup_fraction": 0.1},  # another warm-up in steps
    ],
)
def test_runs_that_differ_from_the_start_share_nothing(values):
    assert share(sweep([100, 200, 400], **values)) == 1


def test_a_family_has_one_seed_rate_and_size():
    values = {
        "sweep.kind": "grid",
        "sweep.grid_keys": ("train.tokens", "optim.lr", ("model.width", "model.mlp_width")),
        "sweep.grid_values": (
            (STEP * 100, STEP * 200, STEP * 400), (1e-3, 2e-3), ((16, 64), (32, 128)),
        ),
        "sweep.seeds": (0, 1),
    }  # fmt: skip
    runs = {r.run_id: r for r in sweep([1], **values)}
    forks = [part for part in jobs.job_runs(list(runs.values()), True) if part.trunk]
    assert len(runs) == 24 and len(forks) == 16, "of three lengths two fork"
    for part in forks:
        differing = {k for k, v in runs[part.trunk].values.items() if v != part.run.values[k]}
        assert differing == {"train.tokens"}


def test_packs_hold_equal_programs_of_similar_length():
    values = {"sweep.seeds": tuple(range(5)), "optim.schedule": "cosine"}
    runs = sweep([100, 110, 400], **values)
    packs = jobs.jobs(jobs.job_runs(runs, True), 4)
    assert sorted(p.run.run_id for job in packs for p in job) == sorted(r.run_id for r in runs)
    assert sorted(len(job) for job in packs) == [2, 3, 3, 3, 4]
    for job in packs:
        steps = [p.run.steps for p in job]
        assert max(steps) <= jobs.LENGTHS * min(steps)
    assert all(len(job) == 1 for job in jobs.jobs(jobs.job_runs(runs, True), 1))


def test_runs_that_may_be_stopped_share_neither_trunk_nor_program():
    values = {
        "sweep.kind": "grid",
        "sweep.grid_keys": ("optim.lr", "train.tokens"),
        "sweep.grid_values": ((1e-3, 2e-3, 4e-3), (STEP * 200, STEP * 400)),
        "sweep.halving": 2,
        "sweep.halving_tokens": STEP * 40,
    }
    runs = sweep([1], **values)
    assert share(runs) == 1
    assert all(len(job) == 1 for job in jobs.jobs(jobs.job_runs(runs, True), 8))


def test_forks_are_packed_separately_from_trunks():
    # the fork trains about as many steps as the trunk of the other family
    long = jobs.job_runs(sweep([300, 1500], **{"sweep.seeds": (0,)}), True)
    fork = next(part for part in long if part.trunk)
    trunks = jobs.job_runs(sweep([fork.steps], **{"sweep.seeds": (1, 2)}), True)
    parts = [*long, *trunks]
    packs = jobs.jobs(parts, 8)
    assert sorted(len(job) for job in packs) == [1, 1, 2]
    assert all(len({bool(part.trunk) for part in job}) == 1 for job in packs)
