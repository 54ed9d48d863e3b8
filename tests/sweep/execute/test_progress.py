"""Test progress, status and events, which read a workdir while others write; nothing is trained."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest

from scaling import cli, results
from scaling.commands import status_view
from scaling.config import load as config_lib
from scaling.sweep.execute import jobs, progress
from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.execute.sweep_bar import Display
from scaling.sweep.plan import planner
from scaling.sweep.plan.planner import PlannedRun
from scaling.training import tensorboard
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE
from tests.common import ROOT

STALE = 60.0


def row(name: str, **values) -> results.RunResult:
    """Write a done run of 1e6 tokens and 6e9 FLOPs: 10 s of training and 2 s of overhead."""
    kinds = {"int": 1, "float": 1.0, "str": "x", "float | None": 1.0, "int | None": 1}
    made = {
        f.name: kinds[f.type] for f in dataclasses.fields(results.RunResult) if f.name != "metrics"
    }
    made |= dict(run_id=name, status="done", reason="", role="sweep", loss=3.0, n_params=1000)
    made |= dict(tokens=1_000_000, flops_exact=6e9, tokens_per_second=1e5, wall_time=12.0)
    return results.RunResult(**made | values)


def planned(names, n_params: int = 1000) -> dict[str, JobRun]:
    return {n: JobRun(PlannedRun({}, n, 0.0, n_params, 1_000_000, 1000, 6e9)) for n in names}


def finish(workdir, name: str, **values) -> None:
    results.write(workdir / "runs" / name / "result.json", row(name, **values))


def train(workdir, name: str, tokens: int, age: float = 0.0, loss: float = 4.0) -> None:
    """Write a run whose last row is `age` seconds old."""
    folder = workdir / "runs" / name
    files.write_json(folder / "config.json", {})
    rows = [
        {"step": t, "tokens": t, "flops": 6000.0 * t, "loss": loss, "grad_norm": 1.0, "lr": 1e-3}
        for t in range(1000, tokens + 1, 1000)
    ]
    files.append_lines(folder / "metrics.jsonl", rows)
    for path in folder.iterdir():
        os.utime(path, (time.time() - age,) * 2)


def fail(workdir, name: str, reason: str) -> None:
    content = dataclasses.asdict(row(name, status="failed", reason=reason, loss=None))
    files.write_json(workdir / "runs" / name / "failure.json", content)


@pytest.fixture
def workdir(tmp_path):
    """One run in every state, and a damaged one."""
    finish(tmp_path, "done")
    finish(tmp_path, "diverged", status="diverged", reason="loss nan", loss=None)
    train(tmp_path, "diverged", 100_000)
    train(tmp_path, "running", 500_000)
    train(tmp_path, "paused", 250_000, age=2 * STALE)
    train(tmp_path, "failed", 200_000, age=10)
    fail(tmp_path, "failed", "no space left on device")
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "result.json").write_text('{"run_id": "damaged"')
    return tmp_path


NAMES = ("done", "diverged", "running", "paused", "failed", "damaged", "waiting")


def test_every_state_has_its_loss_fraction_and_reason(workdir):
    now = progress.Progress(planned(NAMES), workdir, STALE).look()
    states = {r.run_id: r for r in now.runs}
    assert [r.run_id for r in now.runs] == list(NAMES)
    for name in NAMES:
        assert states[name].state == ("failed" if name == "damaged" else name)
    assert {r.run_id: r.fraction for r in now.runs} == {
        "done": 1, "diverged": 0.1, "running": 0.5, "paused": 0.25, "failed": 0.2, "damaged": 0,
        "waiting": 0,
    }  # fmt: skip
    assert states["done"].loss == 3.0 and states["running"].loss == 4.0
    assert states["failed"].reason == "no space left on device"
    assert states["diverged"].reason == "loss nan"
    assert len(now.damaged) == 1 and "damaged/result.json: not JSON" in now.damaged[0]
    assert now.spent == pytest.approx(6e9 * 2.05)
    assert now.left == pytest.approx(6e9 * (0.5 + 0.75 + 0.8 + 1 + 1))
    # 10 s of training per run at the done run's speed, and 2 s of overhead per new run
    assert now.eta_seconds == pytest.approx(10 * 4.05 + 2 * 2)
    assert not now.ended and now.best.run_id == "done"


def test_claims_decide_which_runs_are_running(workdir):
    looker = progress.Progress(planned(NAMES), workdir, STALE)
    now = looker.look(alive={"paused", "failed", "waiting"})
    states = {r.run_id: r.state for r in now.runs}
    assert states["running"] == "paused"
    assert states["paused"] == states["failed"] == states["waiting"] == "running"
    assert looker.look(alive=()).eta_seconds is None


def test_the_last_intact_row_counts(tmp_path):
    train(tmp_path, "a", 300_000)
    path = tmp_path / "runs" / "a" / "metrics.jsonl"
    with open(path, "a") as file:
        file.write('{"step": 999, "tokens": 9')
    assert progress.last_row(path)[0] == {"tokens": 300_000, "loss": 4.0}
    path.write_bytes(b'\xff\xfe{"tokens"\n[1]\nnull\n')
    assert progress.last_row(path)[0] is None
    now = progress.Progress(planned("a"), tmp_path, STALE).look()
    assert now.runs[0].fraction == 0 and now.runs[0].state == "running"


def test_the_rate_is_measured_between_looks(tmp_path):
    clock = iter((1000.0, 1005.0, 1020.0))
    looker = progress.Progress(planned("ab"), tmp_path, STALE, clock=lambda: next(clock))
    assert looker.look().rate is None
    finish(tmp_path, "a")
    assert looker.look().rate is None, "5 seconds are too short"
    assert looker.look().rate == pytest.approx(6e9 / 20)


def test_a_look_does_not_disturb_the_sweep(tmp_path, capsys):
    finish(tmp_path, "a", loss=2.5)
    with Display(planned("abc"), tmp_path, STALE) as display:
        finish(tmp_path, "b", loss=2.25)
        assert display.update().counts == {"done": 2, "waiting": 1}
        fail(tmp_path, "c", "out of memory")
        display.update()
        (tmp_path / "runs" / "c" / "failure.json").unlink()
        finish(tmp_path, "c", loss=2.75)
        assert display.update().ended
    assert capsys.readouterr().err.splitlines() == [
        "[2/3] b  loss 2.2500",
        "[2/3] c  failed: out of memory",
        "[3/3] c  loss 2.7500",
    ]


def test_only_the_first_of_many_runs_are_shown(tmp_path):
    names = [f"d16-l2-t1e06-lr0.001-s0-{i:010x}" for i in range(1000)]
    text = json.dumps(dataclasses.asdict(row("x")))
    for i, name in enumerate(names):
        folder = tmp_path / "runs" / name
        if i % 10:
            os.makedirs(folder)
            (folder / "result.json").write_text(text.replace('"x"', f'"{name}"', 1))
        elif i % 20:
            os.makedirs(folder)
            (folder / "metrics.jsonl").write_text('{"step": 1, "tokens": 500000, "loss": 4.0}\n')
    now = progress.Progress(planned(names), tmp_path, STALE).look()
    assert now.counts == {"running": 50, "done": 900, "waiting": 50}
    text = "\n".join(status_view.lines(now, 40))
    assert len(text.splitlines()) == 40 + 4 and "960 more" in text
    rows, damaged = results.collect(tmp_path)
    assert len(rows) == 900 and not damaged


# ---- the command


def call(capsys, *args):
    code = cli.main(["status", *args])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def half(mini, tmp_path):
    """A study of which one run is missing, one paused and one damaged."""
    workdir = tmp_path / "half"
    shutil.copytree(mini, workdir)
    folders = sorted(f for f in (workdir / "runs").iterdir() if result(f).role == "sweep")
    shutil.rmtree(folders[0])
    (folders[1] / "result.json").unlink()
    for path in folders[1].iterdir():
        os.utime(path, (1e9, 1e9))
    (folders[2] / "result.json").write_text("{")
    return workdir


def result(folder) -> results.RunResult:
    return results.read(folder / "result.json")


def test_status_as_text_and_as_json(capsys, half):
    code, out, err = call(capsys, f"--workdir={half}")
    assert code == EXIT_INCOMPLETE and len(err.splitlines()) == 1 and "result.json" in err
    assert "1 failed, 1 paused, 15 done, 1 waiting" in out and "held-out" in out
    assert "no worker at it" in out
    code, out, _ = call(capsys, f"--workdir={half}", "--json")
    status = json.loads(out)
    assert status["counts"] == {"failed": 1, "paused": 1, "done": 15, "waiting": 1}
    assert status["flops"]["spent"] + status["flops"]["left"] == pytest.approx(
        status["flops"]["planned"]
    )
    assert len(status["runs"]) == 18 and status["others"][0]["role"] == "holdout"
    assert status["eta_seconds"] is None and len(status["damaged"]) == 1


def test_watch_in_a_pipe_prints_once_per_interval_and_ends_by_ctrl_c(half):
    command = [sys.executable, "-m", "scaling", "status", f"--workdir={half}", "--watch=0.2"]
    process = subprocess.Popen(
        [*command, "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background, shells have them ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    looks = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert all(b["time"] - a["time"] > 0.19 for a, b in itertools.pairwise(looks))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0 and err == ""


def test_watch_of_a_finished_sweep_ends_by_itself(capsys, mini):
    code, out, _ = call(capsys, f"--workdir={mini}", "--watch")
    assert code == 0 and "18 done" in out and "nothing left to train" in out


def test_a_wrong_interval_is_one_line(capsys, mini):
    code, out, err = call(capsys, f"--workdir={mini}", "--watch=soon")
    assert code == EXIT_BAD_INPUT and out == "" and err.startswith("error: --watch=soon")


def test_redrawn_lines_fit_the_terminal(workdir, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((40, 13)))
    now = progress.Progress(planned(NAMES), workdir, STALE).look()
    args = argparse.Namespace(json=False, format=None, wide=False, all=False)
    status_view.show(now, args, workdir, interval=1.0)
    out = capsys.readouterr().out
    assert out.startswith("\x1b[H") and out.endswith("\x1b[J\n")
    lines = [line.replace("\x1b[H", "").replace("\x1b[J", "") for line in out.splitlines()]
    assert len(lines) <= 13 and all(len(line.replace("\x1b[K", "")) < 40 for line in lines)


def summaries(path):
    """Return (step, tag, value or None, plugin) of an event file, and check its framing."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    data, rows = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        assert struct.unpack("<I", data[8:12])[0] == masked_crc32c(data[:8])
        assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked_crc32c(body)
        data = data[16 + length :]
        event = event_pb2.Event.FromString(body)
        rows += [
            (event.step, v.tag, v.simple_value, v.metadata.plugin_data.content)
            for v in event.summary.value
        ]
    return rows


def test_events_over_all_runs_read_back(capsys, mini, tmp_path):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    workdir = tmp_path / "copy"
    shutil.copytree(mini, workdir)
    for _ in range(2):  # the second time changes nothing
        code, out, _ = call(capsys, f"--workdir={workdir}", "--tensorboard")
        assert code == 0 and f"tensorboard --logdir {workdir}" in out
    rows, _ = results.collect(workdir)
    for r in rows:
        (path,) = (workdir / "runs" / r.run_id / "tensorboard").glob("*.scaling")
        values = {tag: (value, content) for _, tag, value, content in summaries(path)}
        start = HParamsPluginData.FromString(values["_hparams_/session_start_info"][1])
        assert start.session_start_info.hparams["lr"].number_value == r.lr
        assert start.session_start_info.hparams["schedule"].string_value == r.schedule
        assert values["final/loss"][0] == pytest.approx(r.loss, rel=1e-6)
    curves = {p.parent.name: summaries(p) for p in (workdir / "tensorboard").rglob("*.scaling")}
    assert {"budget_8e08_seed_0", "budget_2.4e09_seed_0", "budget_8e09_seed_0"} < set(curves)
    points = [p for p in curves["budget_8e08_seed_0"] if p[1].endswith("flops")]
    sizes = [p for p in curves["budget_8e08_seed_0"] if p[1].endswith("n_params")]
    assert len(points) == len(sizes) == 6 and all(8890 < step <= 8903 for step, *_ in points)
    losses = [r.loss for r in sorted(rows, key=lambda r: r.n_params) if r.budget == 8e8]
    assert [p[2] for p in sizes] == pytest.approx(losses, rel=1e-6)


def test_events_of_failed_runs_have_no_loss(workdir):
    rows, _ = results.collect(workdir)
    tensorboard.write(workdir, rows)
    (path,) = (workdir / "runs" / "failed" / "tensorboard").iterdir()
    tags = {tag for _, tag, *_ in summaries(path)}
    assert "final/loss" not in tags and "_hparams_/session_start_info" in tags
    assert [p.parent.name for p in (workdir / "tensorboard").rglob("*.scaling")] == [
        "budget_1_seed_1"
    ]


def test_planned_runs_are_found_by_their_id(mini):
    config = config_lib.from_json(files.read_json(mini / "sweep.json"))
    by_id = jobs.runs_by_id(planner.plan(config))
    assert set(by_id) == {r.run_id for r in results.collect(mini)[0] if r.role == "sweep"}
