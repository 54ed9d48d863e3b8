"""Test sweeps that grow: kept runs keep their bits, new runs are trained, changes are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from scaling import cli, results
from scaling.analysis import forecast_file, run_table
from scaling.config import load as config_lib
from scaling.study import holdout, pipeline
from scaling.sweep.execute import growth, jobs, runner
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.utils.errors import UserError
from tests.common import ROOT, STEP, TINY, flags
from tests.sweep import killing, launched

RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)
MORE = (*RATES, 5e-4, 6e-2, 2.5e-4)


def of_rates(rates, **more):
    """Return the values of a sweep of two seeds at each learning rate."""
    return {
        **TINY,
        "sweep.kind": "grid",
        "sweep.grid_keys": ("optim.lr",),
        "sweep.grid_values": (rates,),
        "sweep.seeds": (0, 1),
        "train.tokens": STEP * 40,
        "launch.pack": 1,
        **more,
    }


@pytest.fixture(scope="session")
def six(cache):
    """Six runs of 16 steps."""
    values = of_rates(RATES[:3], **{"train.tokens": STEP * 16, "laws.bootstrap": 8})
    return config_lib.with_values(config_lib.load(str(ROOT / "configs" / "mini.py")), values)


def with_rates(config, rates):
    return config_lib.with_values(config, {"sweep.grid_values": (rates,)})


def contents(workdir):
    return {path.parent.name: path.read_bytes() for path in workdir.glob("runs/*/result.json")}


def test_a_sweep_grows_and_shrinks_and_keeps_its_runs(six, tmp_path, caplog):
    pipeline.train(six, tmp_path)
    before = contents(tmp_path)
    grown = with_rates(six, RATES[1:4])  # drops a rate and adds one
    assert growth.done(growth.planned(grown, tmp_path), tmp_path) == "4 of 6 runs are done"
    assert "history" not in json.loads((tmp_path / "sweep.json").read_text()), "a look writes none"
    outcome = pipeline.train(grown, tmp_path)
    assert "2 runs added, 2 no longer planned (sweep.grid_values)" in caplog.text
    assert not outcome.problems and len(outcome.results) == 8
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before and len(after) == 8
    rows, _ = results.read_table(tmp_path / "runs.csv")
    assert {r.lr for r in rows if r.role == "removed"} == {RATES[0]}
    used, left_out = run_table.usable(outcome.results)
    assert len(used) == 6 and sum("removed run" in str(line) for line in left_out) == 2
    (entry,) = sweep_json.history(tmp_path)
    assert entry["changed"] == {"sweep.grid_values": [[list(RATES[:3])], [list(RATES[1:4])]]}
    assert len(entry["added"]) == len(entry["removed"]) == 2 and entry["date"]
    pipeline.train(six, tmp_path)  # back again trains nothing
    assert contents(tmp_path) == after and len(sweep_json.history(tmp_path)) == 2
    assert len(sweep_json.not_planned(tmp_path)) == 2


def test_changes_of_runs_are_refused_and_named(six, tmp_path):
    sweep_json.create_or_check(six, tmp_path)
    before = (tmp_path / "sweep.json").read_bytes()
    for values, message in (
        ({"optim.weight_decay": 0.3}, r"optim\.weight_decay; 6 runs would change \(first d16-"),
        ({"sweep.grid_values": ((9e-3,),)}, "none of its 6 runs would stay"),
        ({"sweep.halving": 3, "sweep.halving_tokens": STEP * 8}, r"sweep\.halving"),
    ):
        other = config_lib.with_values(six, values)
        with pytest.raises(UserError, match=f"belongs to another sweep.*{message}"):
            growth.create_or_grow(other, tmp_path)
    with pytest.raises(UserError, match="differs in"):  # only `sweep` and `curves` let it grow
        sweep_json.require(with_rates(six, RATES), tmp_path)
    assert (tmp_path / "sweep.json").read_bytes() == before


def test_another_command_that_grows_the_sweep_is_waited_for(six, tmp_path):
    sweep_json.create_or_check(six, tmp_path)
    options = six.launch
    claims = runner.Claims(
        tmp_path / "claims", heartbeat=options.heartbeat_seconds, stale_after=options.stale_seconds
    )
    with claims.take(growth.CLAIM, "other"), pytest.raises(UserError, match="run this one again"):
        growth.create_or_grow(with_rates(six, RATES), tmp_path)
    growth.create_or_grow(with_rates(six, RATES), tmp_path)
    assert len(sweep_json.history(tmp_path)) == 1


def links(plan):
    return [
        [(r.run.round, r.run_id, r.trunk, r.fork_step, r.keep_steps) for r in job] for job in plan
    ]


def test_earlier_runs_keep_their_jobs(six, tmp_path):
    """Workers that train meanwhile, by the earlier plan, meet the same packs and trunks."""
    values = {"sweep.kind": "data", "sweep.grid_keys": (), "sweep.grid_values": (),
              "optim.schedule": "wsd", "optim.warmup_tokens": STEP * 4}  # fmt: skip
    lengths = [STEP * n for n in (48, 68, 96, 136)]
    config = config_lib.with_values(six, {**values, "sweep.tokens": tuple(lengths[:2])})
    sweep_json.create_or_check(config, tmp_path)
    first = jobs.jobs(jobs.job_runs(growth.planned(config, tmp_path), True), 8)
    grown = config_lib.with_values(config, {"sweep.tokens": tuple(lengths)})
    growth.create_or_grow(grown, tmp_path)
    runs = growth.planned(grown, tmp_path)
    assert sorted({run.round for run in runs}) == [0, 1]
    plan = jobs.jobs(jobs.job_runs(runs, True), 8)
    assert [job for job in links(plan) if job[0][0] == 0] == links(first)
    alone = jobs.jobs(jobs.job_runs([dataclasses.replace(r, round=0) for r in runs], True), 8)
    assert len(links(alone)) != len(links(plan)), "without rounds old and new runs share packs"


def test_plan_counts_the_runs_that_are_done(mini, capsys):
    line = ["plan", f"--config={ROOT}/configs/mini.py", f"--workdir={mini}"]
    seeds = planner.plan(sweep_json.read(mini))[0].config.sweep.seeds
    before = (mini / "sweep.json").read_bytes()
    assert cli.main([*line, f"--config.sweep.seeds={(*seeds, 7)}"]) == 0
    assert "18 of 36 runs are done" in capsys.readouterr().out
    assert (mini / "sweep.json").read_bytes() == before


def test_a_sealed_forecast_keeps_its_run(mini, tmp_path, caplog):
    for name in ("sweep.json", "forecast.json"):
        shutil.copy(mini / name, tmp_path)
    config, forecast = sweep_json.read(mini), forecast_file.read(mini)
    before = holdout.planned(forecast, config)
    more = (*config.sweep.budgets, 2 * max(config.sweep.budgets))
    grown = config_lib.with_values(config, {"sweep.budgets": more})
    growth.create_or_grow(grown, tmp_path)
    assert "the forecast was sealed before and stays" in caplog.text
    assert holdout.planned(forecast_file.read(tmp_path), grown) == before
    assert before.run_id == forecast["run_id"]


@pytest.mark.slow
def test_twelve_runs_grow_to_eighteen_through_a_kill(cache, tmp_path):
    """The first results stay as they are; the new ones equal those of one sweep of eighteen."""

    def sweep(rates, workdir):
        line = ["sweep", f"--config={ROOT}/configs/mini.py", f"--workdir={workdir}"]
        return subprocess.Popen(
            [sys.executable, "-m", "scaling", *line, *flags(of_rates(rates))],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ,
        )  # fmt: skip

    grown, whole = tmp_path / "grown", tmp_path / "whole"
    first = sweep(RATES, grown)
    assert first.wait(300) == 0
    before = contents(grown)
    assert len(before) == 12
    killed = sweep(MORE, grown)
    launched.await_(lambda: killing.results(grown) > 13, "new runs to end", 200)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 12 < len(contents(grown)) < 18
    _, error = (again := sweep(MORE, grown)).communicate(timeout=300)
    assert again.returncode == 0, error
    after = contents(grown)
    assert len(after) == 18 and {name: after[name] for name in before} == before
    assert len(sweep_json.history(grown)) == 1
    assert sweep(MORE, whole).wait(300) == 0
    assert launched.table(grown) == launched.table(whole)


@pytest.mark.slow
def test_a_sweep_grows_under_slurm(slurm, small_sweep, small_table, tmp_path, hostile_folder):
    config = config_lib.with_values(
        small_sweep, {"launch.kind": "slurm", "launch.minutes": 5, "launch.workers": 2}
    )
    pipeline.train(with_rates(config, (1e-3, 2e-3)), tmp_path / "w")
    before = contents(tmp_path / "w")
    assert len(before) == 2
    outcome = pipeline.train(config, tmp_path / "w")
    assert not outcome.problems and launched.table(tmp_path / "w") == small_table
    after = contents(tmp_path / "w")
    assert {name: after[name] for name in before} == before
