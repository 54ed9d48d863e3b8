"""A workdir that commit edea69d left half done opens, resumes and fits.

`workdir_edea69d.tar.gz` is a sweep of 12 runs, killed after four of them and inside a fifth, with
the checkpoints and TensorBoard files of finished runs removed. `workdir_edea69d_losses.json` holds
the losses that edea69d reached on the same sweep undisturbed (x86-64 with AVX2).
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from scaling import cli
from tests.common import ROOT

HERE = Path(__file__).parent
OVERRIDES = (
    "--config.sweep.budgets=(2e8,6e8,2e9)",
    "--config.sweep.sizes_per_budget=4",
    "--config.sweep.rungs=6",
    "--config.checkpoint.keep=1",
    "--config.checkpoint.every_tokens=2048",
    "--config.launch.workers=1",
    "--config.launch.pack=1",
    "--config.laws.bootstrap=20",
)
INTERRUPTED = "d16-l1-t1.2e04-lr0.035-s0-0306c84f7a"
# Instruction sets round matrix products differently.
# After at most 459 steps the losses of SSE4.2, AVX2
# and AVX-512 differ by less than this share of the loss.
INSTRUCTION_SETS = 1e-3


@pytest.fixture
def workdir(tmp_path) -> Path:
    with tarfile.open(HERE / "workdir_edea69d.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "workdir_edea69d"


def test_status_counts_its_runs(workdir, capsys):
    assert cli.main(["status", f"--workdir={workdir}", "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert len(runs) == 12
    assert sum(run["state"] == "done" for run in runs) == 4


def test_it_resumes_and_fits(workdir, capsys):
    finished = {f: f.read_bytes() for f in workdir.glob("runs/*/result.json")}
    rows = (workdir / "runs" / INTERRUPTED / "metrics.jsonl").read_bytes()
    assert len(finished) == 4 and rows
    config = f"--config={ROOT / 'configs' / 'mini.py'}"
    assert cli.main(["sweep", config, *OVERRIDES, f"--workdir={workdir}"]) == 0
    assert {f: f.read_bytes() for f in finished} == finished  # no finished run trained again
    resumed = (workdir / "runs" / INTERRUPTED / "metrics.jsonl").read_bytes()
    kept = b"".join(rows.splitlines(keepends=True)[: 48 // 4])  # up to its checkpoint
    assert resumed.startswith(kept) and len(resumed) > len(rows)
    steps = [json.loads(line)["step"] for line in resumed.splitlines()]
    assert steps == sorted(set(steps))  # rows after the checkpoint are not repeated
    losses = {
        f.parent.name: json.loads(f.read_text())["loss"] for f in workdir.glob("runs/*/result.json")
    }
    expected = json.loads((HERE / "workdir_edea69d_losses.json").read_text())
    assert losses == pytest.approx(expected, rel=INSTRUCTION_SETS)
    assert cli.main(["fit", f"--workdir={workdir}"]) == 0  # by the config that edea69d stored
    law = json.loads((workdir / "curves" / "chinchilla.json").read_text())
    assert sorted(law["runs_used"]) == sorted(expected)


def test_a_run_of_it_cannot_change(workdir, capsys):
    config = f"--config={ROOT / 'configs' / 'mini.py'}"
    assert cli.main(["sweep", config, *OVERRIDES[1:], f"--workdir={workdir}"]) == 2
    assert "error: " in capsys.readouterr().err
