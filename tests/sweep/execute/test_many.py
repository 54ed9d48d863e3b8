"""Test that ten times the runs cost at most about ten times the calls in each step of a sweep.

The tests count calls, not seconds, so that a slow machine passes. benchmarks/many_runs.py measures
seconds.
"""

from __future__ import annotations

import cProfile

import pytest

from benchmarks import many_runs


def calls(step) -> int:
    """Count the calls of Python and C functions that `step()` makes in this thread."""
    profile = cProfile.Profile()
    profile.runcall(step)
    return sum(entry.callcount for entry in profile.getstats())


def counted(runs: int, folder) -> dict[str, int]:
    return {name: calls(step) for name, step in many_runs.steps(runs, folder)}


@pytest.fixture(scope="module")
def by_runs(tmp_path_factory) -> dict[int, dict[str, int]]:
    counted(20, tmp_path_factory.mktemp("imports"))
    return {runs: counted(runs, tmp_path_factory.mktemp(str(runs))) for runs in (200, 2000)}


def test_calls_grow_no_faster_than_runs(by_runs):
    few, many = by_runs[200], by_runs[2000]
    assert len(many) == 11
    assert {name: many[name] / few[name] for name in many if many[name] > 11 * few[name]} == {}


def test_a_second_look_reads_no_result_again(by_runs):
    assert by_runs[2000]["second look"] < by_runs[2000]["first look"] / 5


def test_a_finished_sweep_trains_nothing(tmp_path, capsys, monkeypatch):
    returned, output = {}, {}
    monkeypatch.setattr("scaling.programs.train_step.programs", None)
    for name, step in many_runs.steps(200, tmp_path):
        returned[name] = step()
        output[name] = capsys.readouterr().out
    assert len(returned["make jobs"]) == len(returned["write the table"]) == 200
    assert returned["scaling plan"] == 0 and "200 runs, " in output["scaling plan"]
    assert returned["scaling status"] == 0 and "200 done" in output["scaling status"]
    done = "scaling sweep, all done"
    assert returned[done] == 0 and "200 runs in " in output[done]
    assert returned["list the claims"] == {}
