"""Run a sweep to its end: plan jobs, let workers train them, write the table of runs.

Kill the process at any time: the same command resumes with bit-identical results. A run that fails
or diverges does not affect the others, and its row of the table states the reason.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.config import load as config_lib
from scaling.parallel import multiprocess
from scaling.sweep.execute import growth, packing
from scaling.sweep.execute import jobs as jobs_lib
from scaling.sweep.execute.jobs import Job
from scaling.sweep.execute.sweep_bar import Display, LocalBar
from scaling.sweep.execute.worker import Worker
from scaling.sweep.launchers import launch as launchers
from scaling.sweep.plan import halving
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json, workdir_url
from scaling.sweep.shared.claims import Claims
from scaling.utils import files, machine
from scaling.utils.errors import UserError

log = logging.getLogger("scaling")

BY_HAND = "by-hand"  # the launch id of workers started without a launcher


@dataclass(frozen=True)
class Outcome:
    """The result of a sweep: the table's rows, and one line per problem."""

    results: list[results.RunResult]
    problems: list[str]


def run_dir(workdir: Path, run: PlannedRun) -> Path:
    """Return the folder of a run."""
    return workdir / "runs" / run.run_id


def sweep(
    runs: list[PlannedRun],
    workdir: Path,
    role: str = "sweep",
    config: ConfigDict | None = None,
) -> Outcome:
    """Train all runs that have no result yet and write the table.

    `runs` is the plan of `config`, and the workers of `config.launch` train it. Without a config,
    or with one local worker, this process trains the runs. A planned run without a result is a
    problem. A worker that ended early is only a warning.

    Raises UserError if data or mesh are wrong for all runs, and Preempted after a signal, once the
    runs in training are saved; the same call resumes them.
    """
    problems: list[str] = []
    reported: set[str] = set()
    if multiprocess.writer():
        # results that a worker killed on this machine did not upload
        workdir_url.retry(workdir_url.open_workdir(workdir).push_ended)
    unfinished = not all((run_dir(workdir, run) / "result.json").exists() for run in runs)
    if multiprocess.broadcast_from_writer(unfinished):
        with multiprocess.raise_on_all():
            _check(runs, workdir)
        if config is not None:
            config = _with_workers(runs, workdir, config)
        options = runs[0].config.launch if config is None else config.launch
        one_worker = options.kind == "local" and packing.stated_workers(options) == 1
        in_process = config is None or one_worker
        if not in_process and multiprocess.count() > 1:
            raise UserError(
                f"config.launch.kind={options.kind} with config.launch.workers={options.workers}: "
                f"{multiprocess.count()} processes that train each run together cannot start "
                "workers; set local and auto, or start one process with config.launch.nodes"
            )
        if in_process:
            worker = _work_here(runs, workdir, options, uuid.uuid4().hex[:12], role)
            problems, reported = worker.problems, worker.reported
        else:
            assert config is not None
            for line in _launch(runs, workdir, config):  # of workers, which others may replace
                log.warning("warning: %s", line)
    rows = write_table(workdir, problems)
    planned = {run.run_id for run in runs}
    for row in rows:
        if row.run_id in planned - reported and row.status not in results.AS_PLANNED:
            problems.append(f"{row.run_id}: {row.status}, {row.reason}")
    missing = sorted(planned - {row.run_id for row in rows})
    if missing:
        problems.append(
            f"{len(missing)} of {len(planned)} planned runs have no result in {workdir}/runs: "
            f"{', '.join(missing)}; the same command trains them, once their folders hold no "
            "damaged result"
        )
    return Outcome(rows, problems)


def _launch(runs: list[PlannedRun], workdir: Path, config: ConfigDict) -> list[str]:
    """Let the workers of `config.launch` do all jobs, under one bar; return their problems."""
    options = config.launch
    launch_id, store = begin(runs, workdir, config), workdir_url.open_workdir(workdir)
    job_runs = jobs_lib.runs_by_id(runs, options.share_trunks)
    with Display(job_runs, workdir, options.stale_seconds) as display:

        def redraw() -> None:
            alive = functools.partial(workdir_url.watch, store, options)
            display.redraw(alive, max(1.0, store.poll_seconds))

        workers = min(packing.stated_workers(options), len(runs))  # others would find no work
        return launchers.launch(config, workdir, launch_id, workers, redraw)


def begin(runs: list[PlannedRun], workdir: Path, config: ConfigDict) -> str:
    """Write the config of a launch for its workers; return its id, for `scaling work --launch=`."""
    launch_id, options = uuid.uuid4().hex[:12], config.launch
    files.write_json(_launch_file(workdir, launch_id), config_lib.to_json(config))
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, "launches")
    packing.choose(jobs_lib.job_runs(runs, options.share_trunks), workdir, options)
    return launch_id


def _with_workers(runs: list[PlannedRun], workdir: Path, config: ConfigDict) -> ConfigDict:
    """Return the config with the number of workers of the workdir's packing, unless it sets one."""
    if config.launch.kind != "local" or config.launch.workers != "auto" or multiprocess.count() > 1:
        return config
    job_runs = jobs_lib.job_runs(runs, config.launch.share_trunks)
    workers = packing.choose(job_runs, workdir, config.launch, starting=True).workers
    return config_lib.with_values(config, {"launch.workers": workers}) if workers > 1 else config


def work(
    workdir: Path, launch_id: str, process: multiprocess.ProcessRank | None = None
) -> list[str]:
    """Do the work of a worker process of a launcher; return one line per problem of a run here.

    `process`: this one among several processes that train each run together.
    """
    path = _launch_file(workdir, launch_id)
    if not (workdir / "sweep.json").is_file():
        raise UserError(f"--workdir={workdir} holds no sweep; run `scaling sweep` first")
    if launch_id != BY_HAND and not path.is_file():
        raise UserError(
            f"--launch={launch_id}: no such launch in {path.parent}; leave it out to use sweep.json"
        )
    if launch_id == BY_HAND:
        config = sweep_json.read(workdir)
        # each is its own launch, which tries failed runs again
        launch_id = f"{BY_HAND}-{uuid.uuid4().hex[:12]}"
    else:
        config = config_lib.from_json(files.read_json(path), path)
    multiprocess.start(process, config)
    machine.start_jax(config.parallel.cpu_devices)
    runs = growth.planned(config, workdir)
    worker = _worker(runs, workdir, config.launch, launch_id)
    worker.work(_jobs(runs, workdir, config.launch))
    return worker.problems


def _launch_file(workdir: Path, launch_id: str) -> Path:
    return workdir / "launches" / f"{launch_id}.json"


def _jobs(runs: Sequence[PlannedRun], workdir: Path, options) -> list[Job]:
    job_runs = jobs_lib.job_runs(runs, options.share_trunks)
    # several processes train each run on all of their devices, so runs are not packed
    together = multiprocess.count() > 1
    jobs = jobs_lib.jobs(
        job_runs, 1 if together else packing.choose(job_runs, workdir, options).packs
    )
    if (
        packing.stated_workers(options) > 1
    ):  # the largest first, so that no large job runs alone at the end
        jobs.sort(key=lambda job: -sum(job_run.flops for job_run in job))
    return jobs


def _worker(runs: Sequence[PlannedRun], workdir: Path, options, launch_id: str, **more) -> Worker:
    store = workdir_url.open_workdir(workdir)
    claims = Claims(
        store.claims,
        heartbeat=options.heartbeat_seconds,
        stale_after=options.stale_seconds,
    )
    return Worker(
        workdir,
        launch=launch_id,
        claims=claims,
        halving=halving.Halving(workdir, runs, store.shared),
        **more,
    )


def _work_here(
    runs: Sequence[PlannedRun], workdir: Path, options, launch_id: str, role: str
) -> Worker:
    """Do all jobs in this process, under one bar; return the worker that did them."""
    jobs = _jobs(runs, workdir, options)
    with LocalBar(jobs, workdir, hidden=not multiprocess.writer()) as bar:
        worker = _worker(
            runs, workdir, options, launch_id, role=role, on_progress=bar.trained, on_end=bar.ended
        )
        worker.work(jobs)
    return worker


def _check(runs: Sequence[PlannedRun], workdir: Path) -> None:
    """Check data, mesh and memory once, before any run starts.

    Raises UserError if one is wrong, or if a run of this plan has a result on other data.
    """
    from scaling.fields import registry as fields
    from scaling.parallel import mesh, sharding
    from scaling.programs import ahead_of_time

    config = runs[0].config
    fingerprint = fields.of(config.data.field).prepare(config).fingerprint
    planned = {
        run.run_id
        for run in runs
        if all(run.values[k] == v for k, v in runs[0].values.items() if k.startswith("data."))
    }
    for result in results.collect(workdir)[0]:
        if result.run_id in planned and result.data_fingerprint != fingerprint:
            raise UserError(
                f"--workdir={workdir}: {result.run_id} was trained on other data "
                f"({result.data_fingerprint}, now {fingerprint}); restore the documents, or choose "
                "another --workdir"
            )
    mesh.make_mesh(runs[0].config.parallel)
    sharding.rules(runs[0].config.parallel)
    ahead_of_time.check_all_fit_memory(
        run.values for run in runs if not (run_dir(workdir, run) / "result.json").exists()
    )


def write_table(workdir: Path, problems: list[str]) -> list[results.RunResult]:
    """Write and return the table of all runs below `workdir`; add damaged results to `problems`.

    Runs that the sweep no longer plans have the role `removed`, and no fit uses them. `added` is
    the reason of runs that an adaptive sweep added.
    """
    workdir_url.retry(workdir_url.open_workdir(workdir).pull_results)
    rows, damaged = results.collect(workdir)
    removed, reasons = sweep_json.not_planned(workdir), sweep_json.reasons(workdir)
    rows = [
        dataclasses.replace(
            r,
            role="removed" if r.run_id in removed and r.role == "sweep" else r.role,
            added=reasons.get(r.run_id, ""),
        )
        for r in rows
    ]
    problems.extend(line for line in damaged if line not in problems)  # the worker may have, too
    if multiprocess.writer():
        results.write_table(workdir, rows)
    return rows
