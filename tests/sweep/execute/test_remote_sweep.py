"""Test that sweeps on an object store give the bits of a local sweep, on any machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from scaling import cli, results
from scaling.config import load as config_lib
from scaling.sweep.execute import jobs
from scaling.sweep.execute.worker import Worker
from scaling.sweep.launchers import launch as launchers
from scaling.sweep.plan import planner
from scaling.sweep.shared import storage, sweep_json, workdir_url
from scaling.sweep.shared.claims import Claims
from scaling.utils.errors import UserError
from tests.common import ROOT
from tests.sweep import launched
from tests.sweep.s3_server import mirror


@pytest.fixture(scope="module")
def forking(small_sweep, cache):
    """Two learning rates at two lengths: two trunks, and a run forked from each."""
    return config_lib.with_values(
        small_sweep,
        {
            "sweep.grid_keys": ("optim.lr", "train.tokens"),
            "sweep.grid_values": ((1e-3, 4e-3), (32 * 4 * 160, 32 * 4 * 240)),
            "optim.schedule": "wsd",
            "optim.warmup_tokens": 32 * 4 * 16,
            "data.cache_dir": str(cache),
            "launch.pack": 1,
            "launch.heartbeat_seconds": 0.5,
            "launch.stale_seconds": 30.0,
        },
    )


@pytest.fixture(scope="module")
def table(forking, tmp_path_factory):
    """The table of the same sweep in a folder."""
    return launched.reference(forking, tmp_path_factory.mktemp("reference") / "w")


def start(url: str, cache, programs) -> subprocess.Popen:
    """Start a worker as on another machine; only compiled programs are shared, to save time."""
    return subprocess.Popen(
        [sys.executable, "-m", "scaling", "work", f"--workdir={url}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "SCALING_CACHE": str(cache),
            "JAX_COMPILATION_CACHE_DIR": str(programs / "xla"),
        },
    )


def status(url: str, cache, capsys, monkeypatch) -> dict:
    """Return the output of `scaling status` on a machine with this cache."""
    with monkeypatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(cache))
        assert cli.main(["status", f"--workdir={url}", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_two_machines_give_the_table_of_a_local_sweep(
    url, forking, table, cache, tmp_path, capsys, monkeypatch
):
    here = mirror(url, tmp_path / "here", monkeypatch)
    sweep_json.create_or_check(forking, here.path)
    workers = [start(url, tmp_path / name, cache) for name in "ab"]
    try:
        seen = launched.await_(
            lambda: (
                (now := status(url, tmp_path / "c", capsys, monkeypatch))["counts"].get("running")
                and now
            ),
            "a run to begin",
        )
        assert seen["workdir"] == url
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], outputs
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert launched.table(here.path) == table
    now = status(url, tmp_path / "never used", capsys, monkeypatch)
    assert now["counts"] == {"done": 4} and now["flops"]["left"] == 0


def test_another_machine_takes_over_from_a_killed_worker(
    url, forking, table, cache, tmp_path, monkeypatch
):
    here = mirror(url, tmp_path / "here", monkeypatch)
    sweep_json.create_or_check(forking, here.path)
    store = storage.storage(url)
    victim = start(url, tmp_path / "a", cache)
    try:
        (marker, *_) = launched.await_(
            lambda: [key for key in store.list("runs") if "/pushed/" in key], "a checkpoint"
        )
    finally:
        victim.kill()
        victim.communicate()
    run_id, step = marker.split("/")[1], int(marker.split("/")[3].removesuffix(".json"))
    assert step < 240 and f"runs/{run_id}/result.json" not in store.list("runs")

    trained: dict[str, int] = {}

    def count(job, tokens):
        name = job[0].run.run_id
        trained[name] = trained.get(name, 0) + tokens

    claims = Claims(here.claims, heartbeat=0.5, stale_after=30)
    worker = Worker(here.path, launch="next", claims=claims, on_progress=count)
    worker.work([(part,) for part in jobs.job_runs(planner.plan(forking), share_trunks=True)])
    assert worker.problems == []
    assert trained[run_id] <= 32 * 4 * (240 - step)  # it resumed
    assert launched.table(here.path) == table


def test_a_run_forks_from_a_trunk_that_another_machine_trained(
    url, forking, table, tmp_path, monkeypatch
):
    parts = jobs.job_runs(planner.plan(forking), share_trunks=True)
    fork = next(part for part in parts if part.trunk)
    trunk = next(part for part in parts if part.run.run_id == fork.trunk)
    for name, part in (("a", trunk), ("b", fork)):
        machine = mirror(url, tmp_path / name, monkeypatch)
        claims = Claims(machine.claims, heartbeat=0.5, stale_after=30)
        worker = Worker(machine.path, launch="launch", claims=claims)
        worker.work([(part,)])
        assert worker.problems == []
    result = results.read(machine.path / "runs" / fork.run.run_id / "result.json")
    assert result.trunk == trunk.run.run_id and result.flops_spent < result.flops_exact
    assert launched.numbers([result])[0] in table
    rows = (machine.path / "runs" / fork.run.run_id / "metrics.jsonl").read_text().splitlines()
    assert (
        json.loads(rows[0])["step"] == forking.train.log_every
    )  # the rows of the trunk are copied


def test_results_left_by_a_killed_worker_are_uploaded_by_the_next(url, tmp_path, monkeypatch):
    machine = mirror(url, tmp_path / "a", monkeypatch)
    folder = machine.path / "runs" / "run"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    Worker(
        machine.path, launch="next", claims=Claims(machine.claims, heartbeat=1, stale_after=3)
    ).work([])
    assert storage.storage(url).read("runs/run/result.json") == b"{}"


def test_a_result_whose_writer_died_before_the_marker_is_found_by_all(url, tmp_path, monkeypatch):
    killed, other, third = (mirror(url, tmp_path / name, monkeypatch) for name in "abc")
    store, key = storage.storage(url), "runs/run/result.json"
    store.create(key, b"{}")
    third.pull_results()
    assert not (third.path / key).exists(), "ten thousand runs are not listed one by one"
    other.pull(other.path / "runs" / "run")  # to resume it
    assert (other.path / key).read_bytes() == b"{}"
    third.pull_results()
    assert (third.path / key).read_bytes() == b"{}"
    store.delete("ended/result.json/run")
    (killed.path / "runs" / "run").mkdir(parents=True)
    (killed.path / key).write_bytes(b"{}")
    killed.push_ended()  # the next command on that machine
    assert store.list("ended") == ["ended/result.json/run"]


def test_a_look_does_not_replace_metrics_that_a_worker_writes_here(url, tmp_path, monkeypatch):
    machine, other = (mirror(url, tmp_path / name, monkeypatch) for name in "ab")
    rows = machine.path / "runs" / "run" / "metrics.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text("1\n")
    storage.storage(url).replace("runs/run/metrics.jsonl", b"1\n2\n")
    machine.pull_results(running=["run"])
    assert rows.read_text() == "1\n2\n"
    rows.write_text("1\n2\n3\n")
    machine.pull_results(running=["run"])
    assert rows.read_text() == "1\n2\n3\n"
    # for curves, all rows of an ended run are fetched, even over some local rows
    storage.storage(url).replace("ended/result.json/run", b"")
    storage.storage(url).replace("runs/run/result.json", b"{}")
    storage.storage(url).replace("runs/run/metrics.jsonl", b"all\n")
    machine.pull_results()
    assert rows.read_text() == "all\n"
    other.pull_results()
    assert not (other.path / "runs/run/metrics.jsonl").exists()
    other.pull_results(curves=True)
    assert (other.path / "runs/run/metrics.jsonl").read_text() == "all\n"


def test_an_old_local_table_does_not_replace_a_newer_one(url, tmp_path, monkeypatch):
    first = mirror(url, tmp_path / "a", monkeypatch)
    (first.path / "curves").mkdir()
    (first.path / "curves" / "law.json").write_text("old")
    first.push_table()
    second = mirror(url, tmp_path / "b", monkeypatch)
    assert (second.path / "curves" / "law.json").read_text() == "old"
    (second.path / "curves" / "law.json").write_text("newer")
    second.push_table()
    again = mirror(url, tmp_path / "a", monkeypatch)
    again.push_table()
    assert storage.storage(url).read("curves/law.json") == b"newer"


def test_the_second_sweep_on_a_url_is_refused(url, forking, small_sweep, tmp_path, monkeypatch):
    first, second = (mirror(url, tmp_path / name, monkeypatch) for name in "ab")
    sweep_json.create_or_check(forking, first.path)
    with pytest.raises(UserError, match="belongs to another sweep"):
        sweep_json.create_or_check(small_sweep, second.path)
    with pytest.raises(UserError, match=r"nodes=2: .* not s3://bucket/"):
        launchers.launch(
            config_lib.with_values(forking, {"launch.nodes": 2, "launch.kind": "slurm"}),
            *(first.path, "launch", 1),
        )


def test_printed_commands_name_the_store(url, cache, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    flags = ["--config.sweep.kind=data", "--config.sweep.tokens=(2560,)", f"--workdir={url}"]
    assert cli.main(["sweep", f"--config={ROOT}/configs/mini.py", *flags, "--print_commands"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert len(lines) == 3 and all(f"--workdir={url} --launch=" in line for line in lines)


def test_an_unreachable_store_is_retried_and_then_named(monkeypatch, caplog):
    monkeypatch.setattr(workdir_url, "WAITS", (0.0, 0.0))
    tries = []

    def call():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no route")
        return "answer"

    assert workdir_url.retry(call) == "answer" and len(tries) == 3

    def never():
        raise OSError("no route")

    with pytest.raises(UserError, match="store does not answer"):
        workdir_url.retry(never)
    assert "trying again" in caplog.text


@pytest.mark.slow  # halving: test_halving.py; two machines: above
def test_two_machines_halve_a_search_like_one(url, small_sweep, cache, tmp_path, monkeypatch):
    """Both machines contribute losses at a rung, and either may stop a run."""
    search = config_lib.with_values(
        small_sweep,
        {
            "sweep.halving": 2,
            "sweep.halving_tokens": 32 * 4 * 40,
            "data.cache_dir": str(cache),
            "launch.heartbeat_seconds": 0.5,
            "launch.stale_seconds": 30.0,
        },
    )
    expected = launched.reference(search, tmp_path / "local")
    here = mirror(url, tmp_path / "here", monkeypatch)
    sweep_json.create_or_check(search, here.path)
    workers = [start(url, tmp_path / name, cache) for name in "ab"]
    try:
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0], outputs
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    here.pull_results()
    rows, damaged = results.collect(here.path)
    assert not damaged and launched.numbers(rows) == expected
    assert sorted(r.status for r in rows) == ["done", "stopped", "stopped", "stopped"]
    assert all(r.wall_time > 0 for r in rows)
    store = storage.storage(url)
    trained = {key.split("/")[-1] for key in store.list("halving") if key.endswith("-0.json")}
    assert len(trained) == 1  # one group, decided once
