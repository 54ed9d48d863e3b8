"""Test the runner: idempotent, robust to failing runs, safe from other sweeps and from kills."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from scaling import cli, results
from scaling.config import load as config_lib
from scaling.data import prepare
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.utils import files, machine
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError
from tests.common import ROOT, run_cli


@pytest.fixture
def grid(config):
    """A sweep of three short runs."""
    return config_lib.with_values(
        config,
        {
            "sweep.kind": "grid",
            "sweep.grid_keys": ("optim.lr",),
            "sweep.grid_values": ((1e-3, 3e-3, 1e-2),),
        },
    )


def table(workdir):
    rows, damaged = results.read_table(workdir / "runs.csv")
    assert not damaged
    return rows


def test_second_sweep_trains_nothing(grid, tmp_path, monkeypatch):
    first = runner.sweep(planner.plan(grid), tmp_path)
    assert len(first.results) == 3 and not first.problems
    monkeypatch.setattr("scaling.programs.train_step.programs", None)
    second = runner.sweep(planner.plan(grid), tmp_path)
    assert second.results == first.results == table(tmp_path)


@pytest.mark.parametrize("pack", [1, 8])
def test_a_failing_run_leaves_its_reason_and_its_siblings_finish(grid, tmp_path, pack):
    runs = planner.plan(config_lib.with_values(grid, {"launch.pack": pack}))
    victim = next(r for r in runs if r.config.optim.lr == 3e-3)
    blocked = runner.run_dir(tmp_path, victim) / "metrics.jsonl"
    blocked.mkdir(parents=True)  # its rows cannot be written
    outcome = runner.sweep(runs, tmp_path)
    by_lr = sorted(outcome.results, key=lambda r: r.lr)
    assert [r.status for r in by_lr] == ["done", "failed", "done"]
    assert len(outcome.problems) == 1 and "metrics.jsonl" in outcome.problems[0]
    assert by_lr[1].reason in outcome.problems[0]
    # the next command tries it again and the table heals
    blocked.rmdir()
    healed = runner.sweep(runs, tmp_path)
    assert {r.status for r in healed.results} == {"done"} and not healed.problems


def test_another_worker_by_hand_tries_a_failure_again_and_the_same_launch_reports_it(
    grid, tmp_path, monkeypatch
):
    runs = planner.plan(grid)
    sweep_json.create_or_check(grid, tmp_path)
    launch = runner.begin(runs, tmp_path, config_lib.with_values(grid, {"launch.pack": 1}))

    def broken(*args, **options):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("scaling.training.loop.train_runs", broken)
        assert len(runner.work(tmp_path, launch)) == len(runs)
        assert len(runner.work(tmp_path, "by-hand")) == len(runs)
    problems = runner.work(tmp_path, launch)
    assert problems == [], "the hands' failures are of another launch, so it trains"
    assert {r.status for r in runner.write_table(tmp_path, [])} == {"done"}
    with pytest.raises(UserError, match="--launch=typo: no such launch"):
        runner.work(tmp_path, "typo")


def test_a_diverged_run_keeps_its_row(grid, tmp_path):
    wild = config_lib.with_values(
        grid, {"sweep.grid_values": ((1e-3, 1e30),), "optim.schedule": "constant"}
    )
    outcome = runner.sweep(planner.plan(wild), tmp_path)
    by_lr = {r.lr: r for r in outcome.results}
    assert by_lr[1e-3].status == "done" and by_lr[1e30].status == "diverged"
    assert table(tmp_path) == outcome.results


def test_workdir_of_another_sweep_is_refused_and_left_alone(grid, tmp_path):
    sweep_json.create_or_check(grid, tmp_path)
    before = (tmp_path / "sweep.json").read_bytes()
    other = config_lib.with_values(grid, {"optim.weight_decay": 0.3})
    with pytest.raises(UserError, match=r"belongs to another sweep.*optim\.weight_decay"):
        sweep_json.create_or_check(other, tmp_path)
    assert (tmp_path / "sweep.json").read_bytes() == before
    same = config_lib.with_values(grid, {"laws.bootstrap": 7, "parallel.cpu_devices": 1})
    sweep_json.create_or_check(same, tmp_path)


def test_one_of_two_sweeps_that_start_at_once_is_refused(grid, tmp_path, monkeypatch):
    other = config_lib.with_values(grid, {"optim.weight_decay": 0.3})
    as_bytes = files.json_bytes

    def meanwhile(value):
        monkeypatch.undo()
        sweep_json.create_or_check(grid, tmp_path)
        return as_bytes(value)

    monkeypatch.setattr(files, "json_bytes", meanwhile)
    with pytest.raises(UserError, match="belongs to another sweep"):
        sweep_json.create_or_check(other, tmp_path)
    assert sweep_json.read(tmp_path).optim.weight_decay == grid.optim.weight_decay


def test_a_sweep_does_not_mix_data(grid, texts, tmp_path):
    folder, values = texts
    runs = planner.plan(config_lib.with_values(grid, values))
    runner.sweep(runs[:2], tmp_path / "w")
    (folder / "new.txt").write_text("one more document")
    with pytest.raises(UserError, match="was trained on other data"):
        runner.sweep(runs, tmp_path / "w")
    assert len(list((tmp_path / "w" / "runs").iterdir())) == 2


def test_damaged_results_are_named_skipped_and_not_overwritten(mini, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    victim = sorted((workdir / "runs").iterdir())[0] / "result.json"
    victim.write_text('{"run_id": "x"')
    code = cli.main(["sweep", f"--config={ROOT}/configs/mini.py", f"--workdir={workdir}"])
    assert code == EXIT_INCOMPLETE
    assert str(victim) in capsys.readouterr().err
    assert victim.read_text() == '{"run_id": "x"'
    assert len(table(workdir)) == len(table(mini)) - 1


def test_damaged_table_rows_are_named_and_others_kept(mini, tmp_path):
    path = tmp_path / "runs.csv"
    lines = (mini / "runs.csv").read_text().splitlines()
    cells = lines[2].split(",")
    cells[results.FIELDS.index("n_params")] = "many"
    path.write_text("\n".join([lines[0], lines[1], ",".join(cells), *lines[3:]]) + "\n")
    rows, damaged = results.read_table(path)
    assert len(rows) == len(lines) - 2
    assert damaged == [f"{path}: row 3: column n_params='many' is not int; skipped"]


def test_table_round_trip_in_csv_and_parquet(mini):
    from pyarrow import parquet

    collected, damaged = results.collect(mini)
    assert not damaged and table(mini) == collected
    rows = parquet.read_table(mini / "runs.parquet").to_pylist()
    assert all({"accuracy", "accuracy_se", "perplexity"} <= r.metrics.keys() for r in collected)
    assert rows == [
        {k: v for k, v in dataclasses.asdict(r).items() if k != "metrics"} | r.metrics
        for r in collected
    ]


def test_every_row_can_be_traced(mini):
    """A row identifies its config, data, code and packages."""
    rows = table(mini)
    assert Counter(row.role for row in rows) == {"sweep": 18, "holdout": 1}
    assert len({row.config_hash for row in rows}) == len(rows)
    for row in rows:
        folder = mini / "runs" / row.run_id
        config = config_lib.from_json(json.loads((folder / "config.json").read_text()))
        assert config_lib.run_hash(config) == row.config_hash
        assert prepare.prepare(config.data).fingerprint == row.data_fingerprint
        assert re.fullmatch(r"[0-9a-f]{12}(\+changes)?|unknown", row.commit)
        assert row.versions == machine.versions() and "jax " in row.versions


def test_killed_curves_end_with_the_same_numbers(mini, tmp_path):
    """After SIGKILL at two seeded moments, the same command gives bit-identical losses."""
    rng, workdir = random.Random(7), tmp_path / "killed"
    command = [sys.executable, "-m", "scaling", "curves", "--config=configs/mini.py"]
    command.append(f"--workdir={workdir}")
    for target in sorted(rng.sample(range(1, 14), 2)):
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ
        )
        deadline = time.time() + 200
        while time.time() < deadline and process.poll() is None:
            if len(list(workdir.glob("runs/*/checkpoints/[0-9]*"))) > target:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (workdir / "summary.txt").exists(), "every kill came too late"
    done = run_cli("sweep", "--config=configs/mini.py", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    columns = ("run_id", "loss", "loss_se", "bits_per_byte", "train_loss", "tokens", "lr")
    ours, theirs = (
        {r.run_id: [getattr(r, c) for c in columns] for r in table(folder)}
        for folder in (workdir, mini)
    )
    assert len(ours) == 18 and ours.items() <= theirs.items()  # all but the held-out run


def test_bad_sweep_leaves_no_workdir(tmp_path, capsys):
    flags = [f"--config={ROOT}/configs/mini.py", "--config.sweep.budgets=(1e3,)"]
    assert cli.main(["sweep", *flags, f"--workdir={tmp_path / 'w'}"]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.splitlines()) == 1
    assert not (tmp_path / "w").exists()
