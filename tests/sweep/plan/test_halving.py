"""Test successive halving: the runs that continue, the rows of stopped ones, kills and workers."""

from __future__ import annotations

import json
import re

import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.sweep.execute import runner
from scaling.sweep.launchers import launch as launchers
from scaling.sweep.plan import halving, planner
from scaling.sweep.shared import sweep_json
from scaling.training import loop
from scaling.utils import files
from scaling.utils.errors import Preempted, UserError
from tests.common import STEP
from tests.sweep import launched

RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 1e30)


@pytest.fixture(scope="module")
def search(small_sweep):
    """Six rates, the last diverges; 3 of 6 continue after 40 steps, 1 of 3 after 80, up to 160."""
    return config_lib.with_values(
        small_sweep,
        {
            "sweep.grid_values": (RATES,),
            "train.tokens": STEP * 160,
            "sweep.halving": 2,
            "sweep.halving_tokens": STEP * 40,
            "optim.warmup_tokens": STEP * 4,
        },
    )


@pytest.fixture(scope="module")
def undisturbed(search, cache, tmp_path_factory):
    """Return (workdir, outcome) of the search in one process."""
    workdir = tmp_path_factory.mktemp("halving") / "w"
    sweep_json.create_or_check(search, workdir)
    return workdir, runner.sweep(planner.plan(search), workdir, config=search)


def numbers(rows) -> list:
    """Return the parts of a row that do not depend on kills and workers."""
    columns = (*launched.COLUMNS, "reason", "flops_spent")
    return sorted(([getattr(r, c) for c in columns] for r in rows), key=str)


def held_out_at(workdir, row, step) -> float | None:
    rows = files.read_lines(workdir / "runs" / row.run_id / "evals.jsonl", "step")
    return next((r["loss"] for r in rows if r["step"] == step), None)


def test_the_best_runs_continue_and_the_others_state_the_reason(undisturbed):
    workdir, outcome = undisturbed
    by_status: dict[str, list] = {}
    for row in outcome.results:
        by_status.setdefault(row.status, []).append(row)
    (done,), (diverged,), stopped = (by_status[k] for k in ("done", "diverged", "stopped"))
    assert diverged.lr == 1e30 and len(stopped) == 4
    assert len(outcome.problems) == 1 and diverged.run_id in outcome.problems[0]
    first = sorted((held_out_at(workdir, r, 40), r.run_id) for r in (done, *stopped))
    second = sorted(
        (held_out_at(workdir, r, 80), r.run_id)
        for r in (done, *stopped)
        if held_out_at(workdir, r, 80)
    )
    assert {name for _, name in second} == {name for _, name in first[:3]}
    assert second[0][1] == done.run_id
    for rank, (loss, name) in enumerate(first[3:], 4):
        row = next(r for r in stopped if r.run_id == name)
        assert row.reason == (
            f"successive halving: rank {rank} of 6 at 5.1e+03 tokens "
            f"(loss {loss:.4f}, best {first[0][0]:.4f})"
        )
        assert row.loss is None and row.train_loss is not None and row.wall_time > 0
        assert row.flops_spent == pytest.approx(row.flops_exact * 40 / 160)
    assert (
        "rank 3 of 3 at 1.0e+04 tokens"
        in next(r for r in stopped if r.run_id == second[2][1]).reason
    )
    spent = sum(r.flops_spent for r in outcome.results if r.status != "diverged")
    assert spent == pytest.approx(done.flops_exact * (2 * 40 + 2 * 80 + 160) / 160)


def test_the_winner_has_the_numbers_of_a_run_that_was_never_paused(undisturbed, tmp_path):
    workdir, outcome = undisturbed
    (done,) = [r for r in outcome.results if r.status == "done"]
    config = config_lib.from_json(files.read_json(workdir / "runs" / done.run_id / "config.json"))
    alone = loop.train_run(config, tmp_path / done.run_id)
    assert launched.numbers([alone]) == launched.numbers([done])
    rows = [
        files.read_lines(f / done.run_id / "metrics.jsonl", "step")
        for f in (workdir / "runs", tmp_path)
    ]
    assert rows[0] == rows[1]


def test_stopped_runs_count_as_ended_and_are_not_fitted(undisturbed, search):
    from scaling.analysis import run_table
    from scaling.sweep.execute import jobs, progress

    workdir, outcome = undisturbed
    planned = jobs.runs_by_id(planner.plan(search))
    now = progress.Progress(planned, workdir, 60.0).look()
    assert now.ended and now.left == 0 and now.counts == {"diverged": 1, "done": 1, "stopped": 4}
    used, left_out = run_table.usable(outcome.results)
    assert [r.status for r in used] == ["done"]
    assert sum("successive halving: rank" in row.text for row in left_out) == 4
    again = runner.sweep(planner.plan(search), workdir, config=search)
    assert again.results == outcome.results == results.read_table(workdir / "runs.csv")[0]


def test_killed_again_and_again_it_ends_with_the_same_table(
    search, undisturbed, tmp_path, monkeypatch
):
    """Every ninth dispatch is lost with its process and all unsaved state."""
    from scaling.training.run import ActiveRun

    sweep_json.create_or_check(search, tmp_path)
    log, calls, kills = ActiveRun.log, [0], [0]

    def dying(self, window, *rest):
        calls[0] += 1
        if calls[0] % 9 == 0:
            raise Preempted("a test")
        return log(self, window, *rest)

    monkeypatch.setattr(ActiveRun, "log", dying)
    outcome = None
    while outcome is None:
        try:
            outcome = runner.sweep(planner.plan(search), tmp_path, config=search)
        except Preempted:
            kills[0] += 1
            assert kills[0] < 60
    assert kills[0] > 3 and numbers(outcome.results) == numbers(undisturbed[1].results)


def test_two_workers_make_the_same_decisions(search, undisturbed, tmp_path):
    """Two workers of one launch train each run once and decide each rung once."""
    workdir = launched.begin(search, tmp_path / "w")
    assert launchers.launch(search, workdir, "launch", 2) == []
    assert numbers(runner.write_table(workdir, [])) == numbers(undisturbed[1].results)
    decisions = [sorted((f / "halving").glob("*.json")) for f in (workdir, undisturbed[0])]
    assert [p.read_text() for p in decisions[0]] == [p.read_text() for p in decisions[1]]
    assert [p.name[-7:] for p in decisions[0]] == ["-0.json", "-1.json"]


def test_a_failed_run_ranks_last_and_is_not_waited_for(search, tmp_path):
    search = config_lib.with_values(search, {"sweep.grid_values": (RATES[:4],)})
    runs = planner.plan(search)
    blocked = runner.run_dir(tmp_path, runs[0]) / "metrics.jsonl"
    blocked.mkdir(parents=True)
    first = runner.sweep(runs, tmp_path, config=search)
    assert sorted(r.status for r in first.results) == ["done", "failed", "stopped", "stopped"]
    blocked.rmdir()
    second = runner.sweep(runs, tmp_path, config=search)  # its rung is decided
    row = next(r for r in second.results if r.run_id == runs[0].run_id)
    assert row.status == "stopped" and "rank 4 of 4" in row.reason and "(failed, best" in row.reason
    assert row.flops_spent == 0 and not second.problems


def test_a_damaged_decision_is_named(undisturbed, search, tmp_path):
    (tmp_path / "halving").mkdir()
    runs = planner.plan(search)
    (group,) = halving.groups(runs)
    path = tmp_path / "halving" / f"{group.name}-0.json"
    path.write_text(json.dumps({"kept": []}))
    with pytest.raises(UserError, match=re.escape(f"{path}: damaged (") + ".*; delete it"):
        runner.sweep(runs, tmp_path, config=search)


def test_runs_are_compared_with_those_of_their_size_length_and_seed(small_sweep):
    values = {
        "sweep.grid_keys": ("model.width", "train.tokens", "optim.lr", "train.batch_size"),
        "sweep.grid_values": ((16, 32), (STEP * 160, STEP * 320), (1e-3, 2e-3), (4, 8)),
        "sweep.seeds": (0, 1),
        "sweep.halving": 2,
        "sweep.halving_tokens": STEP * 40,
    }
    runs = planner.plan(config_lib.with_values(small_sweep, values))
    groups = halving.groups(runs)
    assert len(groups) == 8 and all(len(g.runs) == 4 for g in groups)
    for group in groups:
        of = {(r.n_params, r.values["train.tokens"], r.values["seed"]) for r in group.runs}
        assert len(of) == 1 and group.rungs == (STEP * 40, STEP * 80)
        for run in group.runs:  # batches of 8 are half as many steps
            assert group.step(run, 0) * run.tokens / run.steps == STEP * 40
    trained, whole = halving.saving(runs)
    per_group = {g.name: g.runs[0].tokens / STEP for g in groups}
    flops = {g.name: g.runs[0].flops / g.runs[0].tokens * STEP for g in groups}
    assert trained == pytest.approx(sum(flops[g] * (2 * 40 + 80 + t) for g, t in per_group.items()))
    assert whole == sum(r.flops for r in runs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sweep.kind": "ladder"}, "a sweep of kind 'ladder' needs all of its runs"),
        ({"sweep.kind": "compute"}, "halving is for grid, random and hyper"),
        ({"sweep.halving": 1}, "config.sweep.halving=1 should be above 1, or None"),
        ({"sweep.halving": -2}, "config.sweep.halving=-2 should be above 1, or None"),
        ({"sweep.halving_tokens": 0}, "config.sweep.halving_tokens is not set"),
        ({"sweep.halving_tokens": STEP * 160},
         "no two runs of equal size, length and seed are longer"),
        ({"sweep.grid_values": ((1e-3,),)}, "no two runs of equal size"),
        ({"sweep.halving_tokens": STEP}, "the rung at 128 tokens is not near a logged step"),
    ],
)  # fmt: skip
def test_impossible_halving_is_one_line(search, values, message):
    with pytest.raises(UserError) as error:
        planner.plan(config_lib.with_values(search, values))
    assert message in str(error.value) and "\n" not in str(error.value)
