"""Runs a sweep to its end: claims the workdir, has workers do the jobs, writes the table.

Killed anywhere, the same command goes on. A run that fails or diverges ends alone, with its reason in
its row of the table.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from scaling import results
from scaling.config import load as config_lib
from scaling.parallel import multiprocess
from scaling.sweep.execute import jobs as jobs_lib
from scaling.sweep.execute import packing
from scaling.sweep.execute.jobs import Job, JobRun
from scaling.sweep.execute.sweep_bar import Display
from scaling.sweep.execute.worker import Worker
from scaling.sweep.launchers import launch as launchers
from scaling.sweep.plan import halving
from scaling.sweep.plan.planner import PlannedRun, plan
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.claims import Claims
from scaling.utils import files, machine
from scaling.utils.errors import UserError

BY_HAND = "by-hand"  # the launch of workers that no launcher started


@dataclass(frozen=True)
class Outcome:
    """What a sweep left: the table's rows, and one line per thing that went wrong."""

    results: list[results.RunResult]
    problems: list[str]


def run_dir(workdir: Path, run: PlannedRun) -> Path:
    return workdir / "runs" / run.run_id


def sweep(
    runs: list[PlannedRun],
    workdir: Path,
    role: str = "sweep",
    config: ConfigDict | None = None,
) -> Outcome:
    """Train all runs that have no result yet and write the table.

    With the `config` that `runs` are the plan of, the work goes to the workers of `config.launch`;
    without one, or where that is one local worker, it is done in this process.

    Raises UserError where data or mesh are wrong for all of them, and Preempted after a signal; the
    runs that it met are saved and the same call goes on with them.
    """
    problems: list[str] = []
    if multiprocess.writer():
        workdir_url.retry(workdir_url.open_workdir(workdir).push_ended)  # of a worker killed here
    left = not all((run_dir(workdir, run) / "result.json").exists() for run in runs)
    if multiprocess.broadcast_from_writer(left):
        with multiprocess.raise_on_all():
            _check(runs, workdir)
        if config is not None:
            config = _scheduled(runs, workdir, config)
        options = runs[0].config.launch if config is None else config.launch
        here = config is None or (options.kind == "local" and options.workers <= 1)
        if not here and multiprocess.count() > 1:
            raise UserError(
                f"config.launch.kind={options.kind} with config.launch.workers={options.workers}: "
                f"{multiprocess.count()} processes that train each run together start no workers; set "
                "local and 0, or start one process, whose launcher sees to config.launch.nodes"
            )
        if here:
            problems = _work_here(runs, workdir, options, uuid.uuid4().hex[:12], role)
        else:
            assert config is not None
            launch_id, place = begin(runs, workdir, config), workdir_url.open_workdir(workdir)
            with Display(
                jobs_lib.runs_by_id(runs, options.share_trunks), workdir, options.stale_seconds
            ) as display:
                problems = launchers.launch(
                    config,
                    workdir,
                    launch_id,
                    max(1, options.workers),
                    lambda: display.redraw(
                        lambda: workdir_url.watch(place, options), max(1.0, place.poll_seconds)
                    ),
                )
    found = write_table(workdir, problems)
    planned = {run.run_id for run in runs}
    for row in found:
        line = f"{row.run_id}: {row.status}, {row.reason}"
        known = any(p.startswith(f"{row.run_id}: ") for p in problems)
        if row.run_id in planned and row.status not in results.AS_PLANNED and not known:
            problems.append(line)
    return Outcome(found, problems)


def begin(runs: list[PlannedRun], workdir: Path, config: ConfigDict) -> str:
    """Write down what workers need to know; returns the launch's id, for `scaling work --launch=`."""
    launch_id, options = uuid.uuid4().hex[:12], config.launch
    files.write_json(_launch_file(workdir, launch_id), config_lib.to_json(config))
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, "launches")
    packing.choose(jobs_lib.job_runs(runs, options.share_trunks), workdir, options)
    return launch_id


def _scheduled(runs: list[PlannedRun], workdir: Path, config: ConfigDict) -> ConfigDict:
    """The config with as many workers as the workdir's schedule has, where it names none."""
    if config.launch.kind != "local" or config.launch.workers or multiprocess.count() > 1:
        return config
    parts = jobs_lib.job_runs(runs, config.launch.share_trunks)
    workers = packing.choose(parts, workdir, config.launch, starting=True).workers
    return config_lib.with_values(config, {"launch.workers": workers}) if workers > 1 else config


def work(workdir: Path, launch_id: str, place: multiprocess.Place | None = None) -> list[str]:
    """What a worker process of a launcher does; returns one line per run that went wrong here.

    With a `place` it is one of several processes that train each run together.
    """
    path = workdir / "sweep.json" if launch_id == BY_HAND else _launch_file(workdir, launch_id)
    if not (workdir / "sweep.json").is_file():
        raise UserError(f"--workdir={workdir} holds no sweep; run `scaling sweep` first")
    if not path.is_file():
        raise UserError(
            f"--launch={launch_id}: no such launch in {path.parent}; leave it out to use sweep.json"
        )
    if launch_id == BY_HAND:  # a launch of its own: what failed by other hands is tried again
        launch_id = f"{BY_HAND}-{uuid.uuid4().hex[:12]}"
    config = config_lib.from_json(files.read_json(path), path)
    multiprocess.start(place, config)
    machine.start_jax(config.parallel.cpu_devices)
    runs = plan(config)
    worker = _worker(runs, workdir, config.launch, launch_id)
    worker.work(_jobs(runs, workdir, config.launch))
    return worker.problems


def _launch_file(workdir: Path, launch_id: str) -> Path:
    return workdir / "launches" / f"{launch_id}.json"


def _jobs(runs: Sequence[PlannedRun], workdir: Path, options) -> list[Job]:
    parts = jobs_lib.job_runs(runs, options.share_trunks)
    together = multiprocess.count() > 1  # then a run has all devices, and packs none to itself
    jobs = jobs_lib.jobs(parts, 1 if together else packing.choose(parts, workdir, options).packs)
    if options.workers > 1:  # the largest first, so that none is left to one worker at the end
        jobs.sort(key=lambda job: -sum(part.flops for part in job))
    return jobs


def _worker(runs: Sequence[PlannedRun], workdir: Path, options, launch_id: str, **more) -> Worker:
    place = workdir_url.open_workdir(workdir)
    claims = Claims(
        place.claims,
        heartbeat=options.heartbeat_seconds,
        stale_after=options.stale_seconds,
    )
    return Worker(
        workdir,
        launch=launch_id,
        claims=claims,
        halving=halving.Halving(workdir, runs, place.shared),
        **more,
    )


def _work_here(
    runs: Sequence[PlannedRun], workdir: Path, options, launch_id: str, role: str
) -> list[str]:
    """All jobs in this process, under one bar."""
    jobs = _jobs(runs, workdir, options)
    flops = {part.run.run_id: part.flops for job in jobs for part in job}
    ended = 0
    # unit: FLOPs, since runs differ in cost by orders of magnitude
    with tqdm(
        total=sum(flops.values()),
        unit="FLOP",
        unit_scale=True,
        desc="sweep",
        disable=None if multiprocess.writer() else True,
    ) as bar:

        def progress(job: Job, tokens: int) -> None:
            bar.update(tokens * job[0].run.flops / job[0].run.tokens)

        def end(part: JobRun, found: results.RunResult | str) -> None:
            nonlocal ended
            ended += 1
            if isinstance(found, str):
                return
            if found.status == "stopped":
                bar.total -= found.flops_exact - found.flops_spent
            loss = f"{found.loss:.4f}" if found.loss is not None else found.status
            bar.set_postfix_str(f"{ended}/{len(runs)} loss {loss}", refresh=False)
            if bar.disable and multiprocess.writer():
                mfu = f"  MFU {found.mfu:.0%}" if found.mfu is not None else ""
                line = f"[{ended}/{len(runs)}] {found.run_id}  loss {loss}  {found.wall_time:.1f} s{mfu}"
                print(line, flush=True)

        for run in runs:
            if (run_dir(workdir, run) / "result.json").exists():
                ended += 1
                bar.update(flops[run.run_id])
        worker = _worker(
            runs, workdir, options, launch_id, role=role, on_progress=progress, on_end=end
        )
        worker.work(jobs)
    return worker.problems


def _check(runs: Sequence[PlannedRun], workdir: Path) -> None:
    """What is wrong is said once, before any run starts: data, mesh, memory.

    Raises UserError; also where a run of this plan has a result on other tokens.
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
    ahead_of_time.insist_all_fit(
        run.values for run in runs if not (run_dir(workdir, run) / "result.json").exists()
    )


def write_table(workdir: Path, problems: list[str]) -> list[results.RunResult]:
    """The table of all runs below `workdir`; damaged results are added to `problems` once."""
    workdir_url.retry(workdir_url.open_workdir(workdir).pull_results)
    found, damaged = results.collect(workdir)
    problems.extend(line for line in damaged if line not in problems)
    if multiprocess.writer():
        results.write_table(workdir, found)
    return found
