"""Test `scaling clean`: what it lists, what it deletes, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.data import cache as data_cache
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.sweep.shared.claims import Claims
from scaling.utils import files, process
from tests.commands.common import call
from tests.common import ROOT, STEP, TINY
from tests.sweep.execute.test_progress import row

OLD = time.time() - 3600


@pytest.fixture
def study(tmp_path):
    """A workdir of two lengths that share a trunk; the longer run, the trunk, has ended."""
    config = config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {
            **TINY,
            "sweep.kind": "grid",
            "sweep.grid_keys": ("train.tokens",),
            "sweep.grid_values": ((STEP * 80, STEP * 160),),
            "optim.schedule": "wsd",
            "optim.warmup_tokens": STEP * 8,
            "data.cache_dir": str(tmp_path / "cache"),
        },
    )
    workdir = tmp_path / "w"
    sweep_json.create_or_check(config, workdir)
    names = [run.run_id for run in sorted(planner.plan(config), key=lambda run: run.tokens)]
    for name in names:
        for folder in ("checkpoints/32", "damaged/16-1", "checkpoints/64.orbax-checkpoint-tmp"):
            path = workdir / "runs" / name / folder / "state"
            path.parent.mkdir(parents=True)
            path.write_bytes(b"x" * 1000)
        os.utime(path.parent, (OLD, OLD))
        temporary = workdir / "runs" / name / ".result.json-ab_12cde"
        temporary.write_bytes(b"x" * 10)
        os.utime(temporary, (OLD, OLD))
    results.write(workdir / "runs" / names[1] / "result.json", row(names[1]))
    return workdir, names


def listed(capsys, workdir, *flags) -> list[tuple[str, str]]:
    """Return (kind, path) of what `clean` lists."""
    code, out, err = call(capsys, "clean", f"--workdir={workdir}", "--json", *flags)
    assert code == 0, err
    return [(x["kind"], x["path"]) for x in json.loads(out)["leftovers"]]


def test_it_lists_and_deletes_nothing_unless_told_to(study, capsys):
    workdir, names = study
    before = sorted(workdir.rglob("*"))
    left = [
        *(("damaged checkpoint", f"runs/{name}/damaged/16-1") for name in sorted(names)),
        *(("temporary file", f"runs/{name}/.result.json-ab_12cde") for name in sorted(names)),
        *(
            ("temporary file", f"runs/{name}/checkpoints/64.orbax-checkpoint-tmp")
            for name in sorted(names)
        ),
    ]
    assert listed(capsys, workdir) == left
    code, out, _ = call(capsys, "clean", f"--workdir={workdir}")
    assert code == 0 and "4.0 kB can be freed; nothing is deleted without --yes" in out
    assert sorted(workdir.rglob("*")) == before
    code, out, _ = call(capsys, "clean", f"--workdir={workdir}", "--yes")
    assert "freed 4.0 kB" in out
    assert not any((workdir / path).exists() for _, path in left)
    assert all((workdir / "runs" / name / "checkpoints" / "32").is_dir() for name in names)
    assert call(capsys, "clean", f"--workdir={workdir}")[1].strip() == "nothing to free"


def test_checkpoints_stay_until_no_run_needs_them(study, capsys):
    workdir, (short, trunk) = study
    kind = "checkpoints of an ended run"
    assert kind not in dict(listed(capsys, workdir, "--checkpoints"))  # the short run forks from it
    results.write(workdir / "runs" / short / "result.json", row(short))
    found = [path for k, path in listed(capsys, workdir, "--checkpoints", "--yes") if k == kind]
    assert sorted(found) == sorted(f"runs/{name}/checkpoints" for name in (short, trunk))
    assert not list(workdir.glob("runs/*/checkpoints"))
    assert len(list(workdir.glob("runs/*/result.json"))) == 2


def test_what_may_be_in_use_stays(study, capsys):
    workdir, (short, _) = study
    for path in workdir.rglob(".result.json-*"):
        os.utime(path)  # written a moment ago
    claims = Claims(workdir / "claims", heartbeat=1, stale_after=60)
    with claims.take(short, "launch"):
        assert not [path for _, path in listed(capsys, workdir, "--checkpoints") if short in path]


def test_unfinished_data_of_a_dead_process_of_this_machine_goes(study, capsys, tmp_path):
    workdir, _ = study
    parent = tmp_path / "cache" / "tokens"
    parent.mkdir(parents=True)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    alive = dataclasses.replace(process.this(), pid=child.pid, started=0)
    elsewhere = dataclasses.replace(alive, host="elsewhere", pid=2**22 + 1)
    folders = [parent / f"{data_cache._prefix(p)}abcdefgh" for p in (alive, elsewhere)]
    folders.append(parent / ".building-abcdefgh")  # as older versions named theirs
    for folder in folders:
        folder.mkdir()
    assert data_cache.abandoned(parent) == []
    child.kill()
    child.wait()
    assert ("unfinished data", str(folders[0])) in listed(capsys, workdir)
    _, out, _ = call(capsys, "clean", f"--workdir={workdir}")
    assert out.count("stays: another machine may be building it") == 2
    assert not data_cache.is_complete(parent / "other")  # as every preparation asks
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_a_store_or_a_folder_without_a_sweep_is_one_line(tmp_path, capsys):
    code, _, err = call(capsys, "clean", "--workdir=s3://bucket/w")
    assert code == 2 and err.count("\n") == 1 and "name a folder" in err
    code, _, err = call(capsys, "clean", f"--workdir={tmp_path}")
    assert code == 2 and err.count("\n") == 1 and "holds no sweep" in err


def test_a_damaged_plan_frees_nothing(study, capsys):
    workdir, _ = study
    shutil.copy(workdir / "sweep.json", workdir / "copy")
    (workdir / "sweep.json").write_text("[]")
    code, _, err = call(capsys, "clean", f"--workdir={workdir}", "--checkpoints", "--yes")
    assert code == 2 and "sweep.json: damaged" in err
    assert list(workdir.glob("runs/*/checkpoints/32"))
    files.write_json(workdir / "sweep.json", files.read_json(workdir / "copy"))
    assert listed(capsys, workdir)
