"""Ten thousand runs: each step of a sweep's own work takes less than five seconds of CPU."""

from __future__ import annotations

import dataclasses
import json
import time
from contextlib import contextmanager

import pytest

from scaling import cli, fields, results, run_spec
from scaling import config as config_lib
from scaling.sweep import jobs, plan, runner
from scaling.sweep.claims import Claims
from scaling.sweep.worker import Worker
from tests.conftest import ROOT

ARGS = (
    "--config.sweep.kind=grid",
    '--config.sweep.grid_keys=("optim.schedule","train.tokens","optim.lr")',
    '--config.sweep.grid_values=(("wsd","cosine"),'
    f"{tuple(128 * (96 + 8 * i) for i in range(10))},{tuple(1e-4 * 1.01**i for i in range(500))})",
    "--config.optim.warmup_tokens=2048",
    "--config.launch.pack=1",
)


@contextmanager
def seconds(most: float = 5.0):
    """Of CPU, so that a busy machine does not matter."""
    start = time.process_time()
    yield
    took = time.process_time() - start
    assert took < most, f"{took:.1f} s"


def test_plan_jobs_first_pass_status_and_table(tmp_path, capsys):
    mini = str(ROOT / "configs" / "mini.py")
    config = config_lib.load(mini, ARGS)
    workdir = tmp_path / "w"
    command = [f"--config={mini}", *ARGS, f"--workdir={workdir}"]
    with seconds():
        assert cli.main(["plan", *command]) == 0
    assert "10000 runs, " in capsys.readouterr().out
    runs = plan.plan(config)
    with seconds():
        found = jobs.jobs(jobs.parts(runs, True), 1)
    assert len(found) == len(runs) == 10_000

    runner.claim_workdir(config, workdir)
    spec = found[0][0].spec(workdir, "sweep")
    row = run_spec.describe(spec, fields.of("language").prepare(config))
    row = dataclasses.replace(row, status="done", loss=2.0, train_loss=2.0)
    for one in runs:
        folder = workdir / "runs" / one.run_id
        folder.mkdir(parents=True)
        done = dataclasses.replace(row, run_id=one.run_id)
        (folder / "result.json").write_text(json.dumps(results.to_json(done)))
    with seconds():
        claims = Claims(workdir / "claims", heartbeat=5, stale_after=60)
        Worker(workdir, launch="x", claims=claims).work(found)
    with seconds():
        assert len(runner.write_table(workdir, [])) == 10_000
    assert len(results.read_table(workdir / "runs.csv")[0]) == 10_000
    with seconds():
        assert cli.main(["status", *command]) == 0
    assert "10,000 done" in capsys.readouterr().out
    with seconds(), pytest.MonkeyPatch.context() as patch:  # nothing is left to train
        patch.setattr("scaling.step.programs", None)
        assert cli.main(["sweep", *command]) == 0
