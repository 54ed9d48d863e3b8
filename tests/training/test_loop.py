"""One run: kill, resume, compare to the bit; diverge; stop by a signal."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.training import loop
from scaling.utils import files
from scaling.utils.errors import EXIT_PREEMPTED, UserError
from tests.common import ROOT, STEP, TINY, as_users_compile, flags, run_cli

OVERRIDES = ("--config=configs/mini.py", *flags(TINY))


# Mini run of 40 steps on two CPU devices. The order of float32 additions depends on the instruction
# set: with --xla_cpu_max_isa=SSE4_2 or AVX2 the held-out loss moves by up to 1.3e-8 of itself, the
# first row's loss by up to 2.1e-8; OPENBLAS_CORETYPE changes no bit. The tolerances are about a
# hundred roundings of float32 (1.2e-7) after 40 steps, and ten of the first row.
GOLDEN_LOSS, GOLDEN_FIRST = 4.211886588484049, 5.738722205162048


def losses(run_dir):
    return [
        (row["step"], row["loss"]) for row in files.read_lines(run_dir / "metrics.jsonl", "step")
    ]


def only_run(workdir):
    (run_dir,) = (workdir / "runs").iterdir()
    return run_dir


def test_a_run_trains_logs_and_ends_once(tmp_path, config):
    result = loop.train_run(config, tmp_path / "run")
    assert result.status == "done" and result.tokens == 32 * 4 * 40
    logged = files.read_lines(tmp_path / "run" / "metrics.jsonl", "step")
    assert [row["step"] for row in logged] == list(range(4, 41, 4))
    assert logged[-1]["loss"] < logged[0]["loss"] - 0.5
    assert result.loss < 5.0 < math.log(256)
    assert result.bits_per_byte == pytest.approx(result.loss / math.log(2))
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    before = (tmp_path / "run" / "result.json").stat().st_mtime_ns
    assert loop.train_run(config, tmp_path / "run") == result
    assert (tmp_path / "run" / "result.json").stat().st_mtime_ns == before


def test_golden_loss(tmp_path):
    """A change here changes every number of every study: say why in the commit that updates it."""
    steps = ("--config.parallel.cpu_devices=2", f"--config.train.tokens={STEP * 40}")
    saved = f"--config.checkpoint.every_tokens={STEP * 16}"
    workdir = f"--workdir={tmp_path}"
    done = run_cli("train", *OVERRIDES, *steps, saved, workdir, env=as_users_compile())
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert results.collect(tmp_path)[0][0].loss == pytest.approx(GOLDEN_LOSS, rel=1e-5)
    first = files.read_lines(run / "metrics.jsonl", "step")[0]
    assert first["loss"] == pytest.approx(GOLDEN_FIRST, rel=1e-6)


def test_same_config_same_bits_and_seeds_differ(tmp_path, config):
    a, b = (loop.train_run(config, tmp_path / n) for n in "ab")
    assert losses(tmp_path / "a") == losses(tmp_path / "b") and a.loss == b.loss
    c = loop.train_run(config_lib.with_values(config, {"seed": 1}), tmp_path / "c")
    assert c.loss != a.loss


def test_one_program_serves_other_rates_horizons_and_seeds(tmp_path, config):
    from scaling.programs import train_step

    programs = train_step.programs(config)
    loop.train_run(config, tmp_path / "a")
    compiled = programs.jitted._cache_size()
    changed = {"optim.lr": 1e-2, "optim.weight_decay": 0.0, "optim.warmup_fraction": 0.2,
               "train.tokens": 32 * 4 * 25, "seed": 3}  # fmt: skip
    loop.train_run(config_lib.with_values(config, changed), tmp_path / "b")
    assert programs.jitted._cache_size() == compiled == 1


def test_killed_run_resumes_to_the_same_bits_and_compiles_nothing(tmp_path, cache):
    compiled = tmp_path / "compiled"  # other tests fill the cache meanwhile
    env = {"JAX_COMPILATION_CACHE_DIR": str(compiled)}
    length = ("--config.train.tokens=131072", "--config.eval.every_tokens=4096")
    whole = run_cli("train", *OVERRIDES, *length, f"--workdir={tmp_path / 'whole'}", env=env)
    assert whole.returncode == 0, whole.stderr
    # smaller programs compile in about the 0.2 s below which jax keeps none
    programs = {p.name for p in compiled.glob("jit_train-*-cache")}
    command = [sys.executable, "-m", "scaling", "train", *OVERRIDES, *length]
    command.append(f"--workdir={tmp_path / 'killed'}")
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **env},
    )
    deadline = time.time() + 120
    while time.time() < deadline and process.poll() is None:
        saved = list((tmp_path / "killed").glob("runs/*/checkpoints/[0-9]*"))
        if saved:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert saved, "no checkpoint before the deadline"
    assert not list((tmp_path / "killed").glob("runs/*/result.json")), "killed too late"
    again = run_cli("train", *OVERRIDES, *length, f"--workdir={tmp_path / 'killed'}", env=env)
    assert again.returncode == 0, again.stderr
    assert {p.name for p in compiled.glob("jit_train-*-cache")} == programs != set()
    a, b = only_run(tmp_path / "whole"), only_run(tmp_path / "killed")
    assert losses(a) == losses(b)
    for name in ("metrics.jsonl", "evals.jsonl"):  # each step once, though some were trained twice
        assert (a / name).read_bytes() == (b / name).read_bytes()
    assert len(files.read_lines(a / "evals.jsonl", "step")) == 32
    assert results.read(a / "result.json").loss == results.read(b / "result.json").loss


def test_a_run_killed_after_its_last_checkpoint_keeps_its_train_loss(tmp_path, config):
    whole = loop.train_run(config, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    rows = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.jsonl")}
    again = loop.train_run(config, tmp_path / "run")
    assert (again.loss, again.train_loss) == (whole.loss, whole.train_loss)
    assert again.train_loss is not None
    assert len(rows) == 2 and {path: path.read_bytes() for path in rows} == rows


def test_rows_after_the_checkpoint_repeats_and_torn_lines_leave_the_file(tmp_path, config):
    """As after a kill, in a folder of an older version that repeated rows."""
    loop.train_run(config, tmp_path / "run")
    path = tmp_path / "run" / "metrics.jsonl"
    rows = path.read_bytes()
    lines = rows.splitlines(keepends=True)
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "40")
    path.write_bytes(b"".join([*lines[:5], b'{"step": 2\n', *lines[3:], lines[-1][:9]]))
    loop.train_run(config, tmp_path / "run")
    assert path.read_bytes() == rows


def test_data_that_changed_under_a_run_is_refused(tmp_path, config, texts):
    folder, values = texts
    config = config_lib.with_values(config, values)
    loop.train_run(config, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    (folder / "new.txt").write_text("one more document")
    with pytest.raises(UserError, match="begun on other data"):
        loop.train_run(config, tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_with_its_own_code(tmp_path, number):
    command = [sys.executable, "-m", "scaling", "train", *OVERRIDES]
    command += ["--config.train.tokens=4000000", f"--workdir={tmp_path}"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ,
    )  # fmt: skip
    deadline = time.time() + 120
    while time.time() < deadline and not list(tmp_path.glob("runs/*/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == EXIT_PREEMPTED, stderr
    assert "the same command continues" in stderr and "Traceback" not in stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    newest = max(int(p.name) for p in (run_dir / "checkpoints").iterdir() if p.name.isdigit())
    assert newest == losses(run_dir)[-1][0]
    assert not (run_dir / "result.json").exists()


def test_divergence_ends_the_run_with_a_reason(tmp_path, config):
    """A rate that overflows float32: the run says where, and keeps its row."""
    wild = config_lib.with_values(
        config, {"optim.lr": 1e30, "optim.warmup_fraction": 0.0, "optim.schedule": "constant"}
    )
    result = loop.train_run(wild, tmp_path / "run")
    assert result.status == "diverged" and "at step" in result.reason
    assert result.loss is None
    assert results.read(tmp_path / "run" / "result.json") == result


def test_last_good_checkpoint_survives_divergence(tmp_path, config, monkeypatch):
    """The rate rises beyond measure late in the run; the checkpoint before that stays."""
    wild = config_lib.with_values(
        config,
        {"optim.schedule": "constant", "optim.lr": 1e30, "optim.warmup_tokens": 32 * 4 * 40,
         "optim.weight_decay": 0.0},
    )  # fmt: skip
    from scaling.programs import schedules

    def late(schedule, step, hyper):
        return (step >= 20) * hyper["lr"]

    monkeypatch.setattr(schedules, "learning_rate", late)
    from scaling.programs import train_step

    train_step.clear_caches()
    result = loop.train_run(wild, tmp_path / "run")
    train_step.clear_caches()
    assert result.status == "diverged"
    kept = [p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()]
    assert kept == ["16"]


def test_another_runs_directory_is_refused_and_left_alone(tmp_path, config):
    loop.train_run(config, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    before = (tmp_path / "run" / "config.json").read_bytes()
    for change in ({"optim.lr": 1e-4}, {"model.parametrization": "mup"}):
        other = config_lib.with_values(config, {"model.base_width": 8, **change})
        with pytest.raises(UserError, match="belongs to another run"):
            loop.train_run(other, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
