"""`--profile`: a trace that opens and holds the step; speed in TensorBoard and the bar only."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from scaling import cli
from scaling.config import load as config_lib
from scaling.training import loop, profiler, progress_bar, run_log
from scaling.utils import files
from scaling.utils.errors import EXIT_BAD_INPUT, UserError
from tests.common import ROOT
from tests.sweep.execute.test_progress import summaries

K = 8  # steps per dispatch; 40 steps


@pytest.fixture
def short(config):
    return config_lib.with_values(config, {"train.steps_per_dispatch": K})


def test_a_trace_holds_the_steps_it_was_asked_for_and_changes_no_number(tmp_path, short):
    plain, traced = (
        loop.train_run(short, tmp_path / name, trace=n) for name, n in (("a", 0), ("b", 2))
    )
    assert profiler.traces(tmp_path / "a") == [] and plain.loss == traced.loss
    (path,) = profiler.traces(tmp_path / "b")
    assert str(path) in profiler.summary(tmp_path / "b")
    data = jax.profiler.ProfileData.from_file(str(path))
    events = [event for plane in data.planes for line in plane.lines for event in line.events]
    steps = [dict(e.stats)["step_num"] for e in events if e.name == "train"]
    assert steps == [2 * K, 3 * K]  # the first two dispatches are not steady
    executed = [e for e in events if dict(e.stats).get("hlo_module") == "jit_train"]
    assert len(executed) > 2 * K and sum(e.duration_ns for e in executed) > 0


def test_a_run_that_ends_within_the_trace_ends_it(tmp_path, short):
    folder = tmp_path / "run"
    loop.train_run(short, folder, trace=99)
    assert len(profiler.traces(folder)) == 1
    loop.train_run(
        short, tmp_path / "next", trace=1
    )  # a second trace could not start in an open one


@pytest.mark.parametrize(
    ("values", "asked", "said"),
    [
        ({}, "--profile=few", "'few' is not a whole number"),
        ({}, "--profile=0", "'0' is below 1"),
        ({}, "--profile", "a run of 40 steps has 3; lower config.train.steps_per_dispatch=16 to 9"),
        ({"train.tokens": 512}, "--profile", "a run of 4 steps has 1; raise config.train.tokens"),
    ],
)
def test_what_cannot_be_traced_is_refused(tmp_path, capsys, values, asked, said):
    flags = [
        f"--config.{key}={value}"
        for key, value in ({"sweep.kind": "none", "train.tokens": 5120} | values).items()
    ]
    code = cli.main(
        ["train", f"--config={ROOT}/configs/mini.py", *flags, f"--workdir={tmp_path}", asked]
    )
    err = capsys.readouterr().err
    assert code == EXIT_BAD_INPUT and said in err and len(err.splitlines()) == 1
    assert not list(tmp_path.glob("runs/*/metrics.jsonl"))


def test_a_run_that_is_done_cannot_be_traced_afterwards(tmp_path, short):
    loop.train_run(short, tmp_path / "run")
    with pytest.raises(UserError, match="run is done, untraced; choose another --workdir"):
        profiler.check(short, tmp_path / "run", 3)


def test_speed_is_in_tensorboard_and_on_the_progress_line(tmp_path, short):
    result = loop.train_run(short, tmp_path / "run")
    (path,) = (tmp_path / "run" / "tensorboard").glob("events*")
    values: dict[str, list] = {}
    for step, tag, value, _ in summaries(path):
        values.setdefault(tag, []).append((step, value))
    # medians of three dispatches; the first of the five holds the compilation
    assert [step for step, _ in values["speed/mfu"]] == [32, 40]
    speeds = [v for _, v in values["speed/tokens_per_second"]]
    assert min(speeds) * 0.999 <= result.tokens_per_second <= max(speeds) * 1.001
    assert all(0 < value < 1 for _, value in values["speed/mfu"])
    last = SimpleNamespace(last_loss=2.0, last_mfu=values["speed/mfu"][-1][1])
    first = SimpleNamespace(last_loss=3.0, last_mfu=None)
    assert progress_bar.figures([first]) == {"loss": "3.0000"} and progress_bar.figures([]) == {}
    assert progress_bar.figures([first, last]) == {"loss": "2.0000", "mfu": f"{last.last_mfu:.0%}"}
    rows = files.read_lines(tmp_path / "run" / "metrics.jsonl", "step")
    keys = {"step", "tokens", "flops", "loss", "grad_norm", "lr", files.CHECKSUM}
    assert all(set(row) == keys for row in rows)


@pytest.mark.parametrize(("count", "speed"), [(1, None), (3, None), (4, 40.0), (6, 30.0)])
def test_a_speed_is_a_median_of_three_or_more_dispatches(count, speed, tmp_path):
    log = run_log.RunLog(
        tmp_path, writer=False, still_mine=lambda: None, tokens_per_step=10, flops_per_step=1e3,
        dtype="float32", log_every=1,
    )  # fmt: skip
    metrics = {key: np.ones(1) for key in run_log.KEYS}
    for step, seconds in enumerate((99, 1 / 4, 1 / 40, 1, 1 / 2, 1 / 3)[:count]):
        log.add_window(run_log.Window(step, 0, 1), metrics, seconds)
    assert log.speed == speed
