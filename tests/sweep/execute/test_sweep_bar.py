"""The bar of a sweep counts each run once: resumed, forked, stopped, failed and begun again."""

from __future__ import annotations

import pytest

from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.execute.sweep_bar import LocalBar
from scaling.sweep.plan.planner import PlannedRun
from tests.sweep.execute.test_progress import finish, planned, row

FLOPS, TOKENS = 6e9, 1_000_000  # of every run of `planned`


@pytest.fixture
def job():
    """A pack of two runs."""
    return tuple(planned("ab").values())


def test_a_run_counts_from_its_checkpoint_and_never_twice(tmp_path, job):
    (tmp_path / "runs" / "a" / "checkpoints" / "400").mkdir(parents=True)  # of 1,000 steps
    with LocalBar([job], tmp_path) as bar:
        assert bar.total == 2 * FLOPS and bar.counted == pytest.approx(0.4 * FLOPS)
        bar.trained(job, int(1.6 * TOKENS))  # 0.6 of a are left, and all of b
        assert bar.counted == pytest.approx(1.8 * FLOPS)
        for run in job:
            bar.ended(run, row(run.run_id))
        assert bar.counted == bar.total


def test_a_pack_that_begins_again_one_by_one_counts_each_run_once(tmp_path, job):
    with LocalBar([job], tmp_path) as bar:
        bar.trained(job, TOKENS)  # half of each, then the pack fails
        for run in job:
            bar.trained((run,), TOKENS)
            assert bar.counted <= bar.total
            bar.ended(run, row(run.run_id))
        assert bar.counted == bar.total


def test_a_finished_run_is_counted_before_the_first_step(tmp_path, job, capsys):
    finish(tmp_path, "a")
    with LocalBar([job], tmp_path) as bar:
        assert bar.counted == FLOPS
        bar.ended(job[1], row("b", loss=2.5))
        assert bar.counted == bar.total
    out, err = capsys.readouterr()
    assert out == "" and "[2/2] b  loss 2.5000" in err


def test_a_result_that_is_reported_again_is_not_a_second_run(tmp_path, job, capsys):
    finish(tmp_path, "a")
    with LocalBar([job], tmp_path) as bar:
        bar.ended(job[0], row("a"))
        bar.ended(job[0], row("a"))
        assert bar.counted == FLOPS
    assert "[1/2] a" in capsys.readouterr().err and bar.total == 2 * FLOPS


def test_a_fork_counts_only_what_is_trained_for_it(tmp_path):
    run = PlannedRun({}, "fork", 0.0, 1000, TOKENS, 1000, FLOPS)
    fork = JobRun(run, trunk="a", fork_step=750)
    (tmp_path / "runs" / "fork" / "checkpoints" / "900").mkdir(parents=True)
    with LocalBar([(fork,)], tmp_path) as bar:
        assert bar.total == FLOPS / 4 and bar.counted == pytest.approx(0.6 * FLOPS / 4)
        bar.trained((fork,), TOKENS // 10)
        assert bar.counted == pytest.approx(bar.total)


def test_a_stopped_run_takes_its_rest_out_of_the_total(tmp_path, job):
    with LocalBar([job], tmp_path) as bar:
        bar.trained((job[0],), TOKENS // 4)
        bar.ended(job[0], row("a", status="stopped", loss=None, flops_spent=FLOPS / 4))
        assert bar.counted == FLOPS / 4 and bar.total == FLOPS * 1.25
        bar.ended(job[1], "out of memory")
        assert bar.counted == FLOPS / 4
