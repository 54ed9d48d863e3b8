"""Damage the files of a small workdir in every way of benchmarks/faults_damage.py; train nothing.

The commands that fit and train, the cache and the checkpoints are in `benchmarks.faults_files`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import faults_damage as ways
from benchmarks.faults_files import fault_of
from scaling import results
from scaling.commands import clean, report, status
from scaling.config import load as config_lib
from scaling.report import saved_summary
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json
from scaling.utils import files
from tests.commands.common import call
from tests.common import ROOT, STEP, TINY
from tests.sweep.execute.test_progress import row

STATUS, REPORT, CLEAN = ([c.__name__.rpartition(".")[2]] for c in (status, report, clean))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A sweep of a finished, a failed and an unfinished run, and what a fit might have written."""
    rates = {"sweep.kind": "grid", "sweep.grid_keys": ("optim.lr",)}
    values = {**TINY, **rates, "sweep.grid_values": ((1e-3, 2e-3, 3e-3),), "train.tokens": STEP * 9}
    config = config_lib.with_values(config_lib.load(str(ROOT / "configs" / "mini.py")), values)
    workdir = tmp_path_factory.mktemp("damaged") / "w"
    sweep_json.create_or_check(config, workdir)
    done, failed, running = (workdir / "runs" / run.run_id for run in planner.plan(config))
    results.write(done / "result.json", row(done.name))
    failure = row(failed.name, status="failed", reason="no space", loss=None)
    content = {**results.to_json(failure), "launch": "a"}
    files.write_json(failed / "failure.json", content, seal=True)
    rows = [{"step": k, "tokens": k * STEP, "loss": 4.0, "flops": 1.0} for k in (1, 2, 3)]
    files.write_lines(running / "metrics.jsonl", rows)
    law = {"name": "law", "parameters": {"E": {"value": 1.0, "low": 0.5, "high": 2.0}}}
    files.write_json(workdir / "curves" / "law.json", law)
    files.write_bytes(workdir / "summary.txt", "E 1.0 — a law\n".encode())
    written = saved_summary.hashes(workdir, ("summary.txt", "curves/law.json"))
    stamp = {"sha256": "", "curves": ["law"], "written": written}
    files.write_json(workdir / saved_summary.STAMP, stamp, seal=True)
    return workdir


GROUPS = {
    "sweep.json": ("sweep.json", ways.as_json, STATUS),
    "sweep.json to clean": ("sweep.json", ways.whole_file, CLEAN),
    "result.json": ("runs/*/result.json", ways.as_json, STATUS),
    "failure.json": ("runs/*/failure.json", ways.as_json, STATUS),
    "curves/*.json": ("curves/law.json", ways.as_json, REPORT),
    "summary.txt": ("summary.txt", ways.whole_file, REPORT),
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_damage_is_named_in_one_line(study, tmp_path, capsys, group):
    pattern, damages, command = GROUPS[group]
    cases = ways.cases_of(group.split(" ")[0], pattern, damages, command, study)
    assert len(cases) >= 4
    faults = {}
    for case in cases:
        workdir = shutil.copytree(study, tmp_path / "w")
        damaged = case[2](workdir)
        content = damaged.read_bytes() if damaged.is_file() else None
        code, _, err = call(capsys, *command, f"--workdir={workdir}")
        faults[case[1]] = fault_of(case, damaged, code, err) or (len(err.splitlines()) > 1 and err)
        assert content is None or damaged.read_bytes() == content  # nothing is mended by a look
        shutil.rmtree(workdir)
    assert not {name: fault for name, fault in faults.items() if fault}


def test_lines_of_a_run_in_training_never_end_a_look(study, tmp_path, capsys):
    """`status` reads the last intact row."""
    for case in ways.cases_of("", "runs/*/metrics.jsonl", ways.as_lines, STATUS, study):
        workdir = shutil.copytree(study, tmp_path / "w")
        case[2](workdir)
        code, out, err = call(capsys, *STATUS, f"--workdir={workdir}", "--json")
        assert code == 0 and not err, (case[1], err)
        assert len(json.loads(out)["runs"]) == 3
        shutil.rmtree(workdir)
