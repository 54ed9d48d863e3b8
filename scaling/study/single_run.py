"""Train one run in a workdir, and find the runs of a workdir without a sweep."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.sweep.execute import growth
from scaling.sweep.plan import planner
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json
from scaling.utils import files
from scaling.utils.errors import UserError


def folder_of(config: ConfigDict, workdir: Path) -> Path:
    """Return the folder of the run that the config describes."""
    return workdir / "runs" / hashing.run_id(config)


def train(config: ConfigDict, workdir: Path, trace: int = 0) -> results.RunResult:
    """Train the one run that the config describes, or return its result.

    `trace`: write a profiler trace of this many dispatches. Raises UserError on bad input. Raises
    Preempted after a signal, with everything saved.
    """
    from scaling.parallel import multiprocess
    from scaling.sweep.shared import workdir_url
    from scaling.training import loop, profiler
    from scaling.utils import machine, signals

    machine.start_jax(config.parallel.cpu_devices)
    store, folder = workdir_url.open_workdir(workdir), folder_of(config, workdir)
    if multiprocess.count() > 1 and workdir_url.is_remote(store.name):
        raise UserError(f"--workdir={store.name}: several processes need a folder that all mount")
    workdir_url.retry(store.pull, folder)
    if trace:
        profiler.check(config, folder, trace)
    try:
        return loop.train_run(
            config,
            folder,
            before_writing=lambda: workdir_url.push_if_reachable(store, [folder]),
            trace=trace,
        )
    finally:
        with signals.saving():
            workdir_url.retry(store.push, folder)


def runs_of(config: ConfigDict | None, workdir: Path) -> tuple[ConfigDict, list[PlannedRun]]:
    """Return the config and the runs of a workdir: its sweep's plan or, without a sweep, its runs.

    Raises UserError if it holds neither, or if `config` describes another sweep or run.
    """
    if (workdir / sweep_json.NAME).exists():
        if config is None:
            config = sweep_json.read(workdir)
        else:
            config = sweep_json.require(config, workdir)
        return config, growth.planned(config, workdir)
    folders = [workdir / "runs" / name for name in results.run_names(workdir)]
    runs = {run.run_id: run for folder in folders if (run := _planned(folder))}
    if not runs:
        raise UserError(
            f"--workdir={workdir} holds no sweep and no run; run `scaling sweep` or `scaling "
            "train` first"
        )
    if config is None:
        return next(iter(runs.values())).config, list(runs.values())
    run_id = hashing.run_id(config)
    if run_id not in runs:
        raise UserError(
            f"--workdir={workdir} holds no sweep, and no run of this config ({run_id}); leave "
            "--config out to see its runs"
        )
    return config, [runs[run_id]]


def _planned(folder: Path) -> PlannedRun | None:
    """Return the run of a folder, or None if it has no config."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    run = planner.plan_run(config_lib.from_json(files.read_json(path), path))
    return dataclasses.replace(run, run_id=folder.name)
