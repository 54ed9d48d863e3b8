"""Test workdirs on an object store against a local S3 server: claims, mirrors, takeovers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from scaling import results
from scaling.sweep.shared import storage, workdir_url
from scaling.sweep.shared.checkpoints import local_steps
from scaling.sweep.shared.claims import Claims
from scaling.training import loop
from scaling.utils import files
from scaling.utils.errors import Preempted, UserError
from tests.common import ROOT
from tests.sweep.claiming import OWNER, RACER, ask, start, take_within
from tests.sweep.s3_server import mirror


def keys(url: str, folder: str = "") -> set[str]:
    return set(storage.storage(url).list(folder))


def test_storage_creates_once_and_lists_one_folder_only(url):
    store = storage.storage(url)
    assert store.list() == store.list("run") == [] and store.read("run/1.json") is None
    assert store.create("run/1.json", b"one") and not store.create("run/1.json", b"two")
    assert store.create("run1/1.free", b"") and not store.create("run1/1.free", b"")
    assert store.read("run/1.json") == b"one" and store.list("run") == ["run/1.json"]
    store.replace("run/1.json", b"three")
    assert store.read("run/1.json") == b"three"
    store.delete("run/1.json")
    store.delete("run/1.json")
    assert store.list() == ["run1/1.free"]


def test_other_answers_of_conditional_writes_are_understood(url, monkeypatch):
    """MinIO and others answer 412 without the condition's name, and S3 itself sometimes 409."""
    import errno

    store = storage.storage(url)
    for code, number in (("PreconditionFailed", errno.EINVAL), ("409", errno.EIO)):

        def refuse(*_, code=code, number=number, **__):
            cause = Exception()
            cause.response = {"Error": {"Code": code}}
            raise OSError(number, "refused") from cause

        monkeypatch.setattr(store, "_fs", type("Store", (), {"pipe_file": staticmethod(refuse)}))
        assert not store.create("run/1.json", b"")


def test_processes_on_s3_take_each_name_once(url):
    racers = [start(RACER.replace("range(200)", "range(25)"), url) for _ in range(3)]
    try:
        assert [r.stdout.readline() for r in racers] == ["ready\n"] * 3
        for racer in racers:
            racer.stdin.write("\n")
        taken = [name for racer in racers for name in racer.stdout.readline().split()]
        assert sorted(taken) == sorted(f"run-{i}" for i in range(25))
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def test_owners_on_s3_are_replaced_when_suspended_or_killed(url):
    owner = start(OWNER, url)
    try:
        assert owner.stdout.readline() == "True\n"
        c = Claims(url, heartbeat=0.2, stale_after=1)
        assert c.take("run", "L") is None and ask(owner) == "False"
        owner.send_signal(signal.SIGSTOP)
        claim, seconds = take_within(c, 20)
        assert claim and seconds > 0.8
        owner.send_signal(signal.SIGCONT)
        assert ask(owner) == "True" and not claim.lost()
        claim.release()
        assert c.holders() == {}
    finally:
        owner.kill()
        owner.communicate()
    owner = start(OWNER, url)
    assert owner.stdout.readline() == "True\n"
    owner.kill()
    claim, _ = take_within(Claims(url, heartbeat=5, stale_after=60), 10)
    assert claim and claim.attempts == 1
    claim.release()
    owner.communicate()


def test_a_run_stopped_on_one_machine_ends_on_another_with_the_same_bits(
    url, config, tmp_path, monkeypatch
):
    alone = loop.train_run(config, tmp_path / "alone")
    here = mirror(url, tmp_path / "a", monkeypatch)
    run_dir = here.path / "runs" / loop.run_id(config)

    def stop_late():
        here.push(run_dir)
        if rows(run_dir) and rows(run_dir)[-1]["tokens"] > 0.5 * config.train.tokens:
            raise Preempted("the machine goes away")

    with pytest.raises(Preempted):
        loop.train_run(config, run_dir, before_writing=stop_late)
    here.push(run_dir)
    there = mirror(url, tmp_path / "b", monkeypatch)
    assert there.path != here.path
    second = there.path / "runs" / run_dir.name
    there.pull(second)
    steps = local_steps(second)
    assert steps and steps == {max(local_steps(run_dir))}
    assert (second / "metrics.jsonl").is_file() and not (second / "result.json").exists()

    (second / "metrics.jsonl").unlink()
    result = loop.train_run(config, second)
    assert rows(second)[0]["tokens"] > 0.3 * config.train.tokens  # it resumed
    assert (result.loss, result.train_loss) == (alone.loss, alone.train_loss)
    there.push(second)
    there.pull_results()
    results.write_table(there.path, results.collect(there.path)[0])
    there.push_table()

    # the first machine, restarted, reads it from the store, and a third reads the table
    here.pull(run_dir)
    assert results.read(run_dir / "result.json") == result
    third = mirror(url, tmp_path / "c", monkeypatch)
    assert results.read_table(third.path / "runs.csv")[0] == [result]
    third.pull_results(running=[run_dir.name])
    assert results.collect(third.path) == ([result], [])
    assert (third.path / "runs" / run_dir.name / "metrics.jsonl").is_file()


def rows(run_dir) -> list[dict]:
    return files.read_lines(run_dir / "metrics.jsonl", key="step")


@pytest.fixture
def run_dir(url, tmp_path, monkeypatch):
    """Return (workdir, run directory) with two uploaded checkpoints of two files each."""
    workdir = mirror(url, tmp_path / "a", monkeypatch)
    run_dir = workdir.path / "runs" / "run"
    for step in (10, 20):
        write_checkpoint(run_dir, step)
    (run_dir / "metrics.jsonl").write_text('{"step": 20}\n')
    workdir.push(run_dir)
    return workdir, run_dir


def write_checkpoint(run_dir, step: int) -> None:
    folder = run_dir / "checkpoints" / str(step)
    (folder / "state" / "d").mkdir(parents=True)
    (folder / "state" / "d" / "array").write_bytes(bytes(1000 + step))
    (folder / "_METADATA").write_text("{}")


def test_checkpoints_deleted_here_are_deleted_on_the_store(url, run_dir):
    workdir, run_dir = run_dir
    (run_dir / "checkpoints" / "30.orbax-checkpoint-tmp").mkdir()  # unfinished: stays here
    assert {k.split("/")[3] for k in keys(url, "runs/run/checkpoints")} == {"10", "20"}
    write_checkpoint(run_dir, 30)
    for file in sorted((run_dir / "checkpoints" / "10").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    (run_dir / "checkpoints" / "10").rmdir()
    workdir.push(run_dir)
    assert {k.split("/")[3] for k in keys(url, "runs/run/checkpoints")} == {"20", "30"}
    assert keys(url, "runs/run/pushed") == {f"runs/run/pushed/{s}.json" for s in (20, 30)}


@pytest.mark.parametrize("harm", ["missing", "truncated", "marker"])
def test_an_incomplete_checkpoint_is_skipped(url, run_dir, tmp_path, monkeypatch, harm, caplog):
    store = storage.storage(url)
    if harm == "missing":
        store.delete("runs/run/checkpoints/20/state/d/array")
    elif harm == "truncated":
        store.replace("runs/run/checkpoints/20/state/d/array", b"short")
    else:
        store.replace("runs/run/pushed/20.json", b"{")
    other = mirror(url, tmp_path / "b", monkeypatch)
    other.pull(other.path / "runs" / "run")
    assert local_steps(other.path / "runs" / "run") == {10}
    assert "checkpoint 20" in caplog.text
    assert not list((other.path / "runs" / "run").glob(".pull-*"))


def test_pull_takes_the_newest_or_the_requested_checkpoint(url, run_dir, tmp_path, monkeypatch):
    other = mirror(url, tmp_path / "b", monkeypatch)
    second = other.path / "runs" / "run"
    other.pull(second)
    assert local_steps(second) == {20}
    assert (second / "checkpoints/20/state/d/array").read_bytes() == bytes(1020)
    other.pull(second, step=10)
    assert local_steps(second) == {10, 20}
    write_checkpoint(second, 30)
    (second / "metrics.jsonl").write_text('{"step": 30}\n')
    other.pull(second)  # the store's state is older now
    assert (second / "metrics.jsonl").read_text() == '{"step": 30}\n'


def test_a_push_without_news_sends_no_request(run_dir, monkeypatch):
    workdir, run_dir = run_dir
    monkeypatch.setattr(workdir, "_store", None)
    monkeypatch.setattr(workdir, "_fs", None)
    workdir.push(run_dir)


def test_a_result_is_created_once_and_ends_a_failure(url, run_dir, tmp_path, monkeypatch):
    workdir, run_dir = run_dir
    (run_dir / "failure.json").write_text('{"reason": "first"}')
    workdir.push(run_dir)
    other = mirror(url, tmp_path / "b", monkeypatch)
    other.pull_results()
    assert json.loads((other.path / "runs/run/failure.json").read_text())["reason"] == "first"
    (run_dir / "failure.json").unlink()
    (run_dir / "result.json").write_text("1")
    workdir.push(run_dir)
    assert keys(url, "ended") == {"ended/result.json/run"}
    assert "runs/run/failure.json" not in keys(url, "runs")
    (run_dir / "result.json").write_text("12")
    workdir.push(run_dir)
    assert storage.storage(url).read("runs/run/result.json") == b"1"


def test_a_workdir_deleted_on_the_store_starts_with_an_empty_scratch(
    url, run_dir, tmp_path, monkeypatch
):
    old = run_dir[0]
    assert mirror(url, tmp_path / "a", monkeypatch).path == old.path
    for key in keys(url):
        storage.storage(url).delete(key)
    new = mirror(url, tmp_path / "a", monkeypatch)
    assert new.path != old.path and not (new.path / "runs").exists()


def test_a_sweep_started_elsewhere_meanwhile_is_not_overwritten(url, tmp_path, monkeypatch):
    first, second = (mirror(url, tmp_path / name, monkeypatch) for name in "ab")
    (first.path / "sweep.json").write_text('{"name": "first"}')
    first.push_table()
    (second.path / "sweep.json").write_text('{"name": "second"}')
    second.push_table()
    third = mirror(url, tmp_path / "c", monkeypatch)
    for workdir in (second, third):
        assert json.loads((workdir.path / "sweep.json").read_text()) == {"name": "first"}


def test_a_folder_is_its_own_workdir(tmp_path):
    workdir = workdir_url.open_workdir(tmp_path)
    assert workdir.path == tmp_path and workdir.claims == tmp_path / "claims"
    workdir.push(tmp_path / "runs" / "x")
    assert list(tmp_path.iterdir()) == []


def test_bad_workdirs_are_one_line(url, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="holds no sweep"):
        workdir_url.open_workdir(url, create=False)
    assert keys(url) == set()
    with pytest.raises(UserError, match="unknown scheme ftp"):
        workdir_url.open_workdir("ftp://host/sweep")
    with pytest.raises(UserError, match="cannot be used") as error:
        workdir_url.open_workdir("s3://no-such-bucket/sweep")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scheme,package", [("s3", "s3fs"), ("gs", "gcsfs")])
def test_a_missing_package_is_one_line(scheme, package):
    code = f"""
import sys
sys.modules[{package!r}] = None
from scaling.sweep.shared import workdir_url
from scaling.utils.errors import UserError
try:
    workdir_url.open_workdir("{scheme}://bucket/sweep")
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env={**os.environ}
    )
    assert f"needs the package {package}; pip install" in done.stdout, done.stderr
    assert done.stdout.count("\n") == 1
