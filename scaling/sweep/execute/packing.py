"""Choose how the runs of a sweep share a machine, by config or by measurement, once per workdir.

The choice has two numbers: the runs of equal shape per program, and the worker processes, each on
its share of the cores. `<workdir>/schedule.json` stores it for every later command that sets
neither. It must not change: a packed run and the same run alone agree only to float tolerance,
while a restart must agree to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.parallel import multiprocess
from scaling.sweep.execute import jobs, packing_trial
from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.storage import FolderStorage
from scaling.utils import files
from scaling.utils.machine import visible_cores

MAX_PACK = 8  # runs of a pack, unless the config sets a number
# Seconds. Shorter sweeps are packed unmeasured, since measuring compiles twice, and use no workers.
WORTH_MEASURING = 60.0


@dataclass(frozen=True)
class Packing:
    """The choice of one workdir."""

    packs: dict[str, int] | int  # runs per program by `jobs.pack_key`, or one number for all
    workers: int  # processes; 1 = the command's own


def choose(
    job_runs: Sequence[JobRun], workdir: Path, options, *, starting: bool = False
) -> Packing:
    """Return the packing of a sweep's runs, read from `schedule.json` or chosen and stored there.

    `options` is config.launch. `starting`: the caller would start workers. Raises UserError if
    `schedule.json` is damaged.
    """
    if options.pack != "auto":
        return Packing(options.pack, stated_workers(options))
    if stated_workers(options) > 1 or options.kind != "local":
        return Packing(1, stated_workers(options))  # workers share the machine already
    path = workdir / "schedule.json"
    if not path.is_file():
        packs = _choose_packs(job_runs)
        measure_workers = starting and options.workers == "auto"
        workers = _choose_workers(job_runs, packs, options) if measure_workers else 1
        if workers > 1:
            packs = dict.fromkeys(packs, 1)
        content = files.json_bytes({"packs": packs, "workers": workers}, seal=True)
        with files.report_unwritable(path):
            FolderStorage(workdir).create(path.name, content)  # False: another was first
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, path.name)
    fix = "delete it to measure again"
    stored = files.read_json(path, fix)
    with files.damage(path, fix):
        packs = {key: int(runs) for key, runs in stored["packs"].items()}
        workers = int(stored.get("workers", 1))  # older files have none
        if min([workers, *packs.values()]) < 1:
            raise ValueError("a number below 1")
    fit = min(workers, len(visible_cores()))  # another machine may have written it
    if options.workers != "auto":
        return Packing(packs, options.workers)
    return Packing(packs, fit if starting else 1)


def stated_workers(options) -> int:
    """Return the worker processes that config.launch asks for, 1 if it leaves the choice."""
    return 1 if options.workers == "auto" else options.workers


def _choose_packs(job_runs: Sequence[JobRun]) -> dict[str, int]:
    """Return the faster number of runs per program for every group, 1 if they cannot share one."""
    packs: dict[str, int] = {}
    for key, group in jobs.groups(job_runs):
        values = group[0].run.values
        split = any(values[f"parallel.{axis}"] != 1 for axis in ("fsdp", "sequence", "tensor"))
        packs[key] = max(packs.get(key, 1), 1 if split or len(group) < 2 else _faster(group))
    return packs


def _faster(group: Sequence[JobRun]) -> int:
    """Return the faster number of runs per program of one group."""
    import jax

    from scaling.training import benchmark
    from scaling.utils import machine

    config = group[0].run.config
    machine.start_jax(config.parallel.cpu_devices)
    devices = jax.local_device_count()
    runs = min(MAX_PACK, len(group))
    runs -= runs % devices if runs > devices else 0
    if not _worth_measuring(group):
        return runs
    tokens = sum(job_run.tokens for job_run in group)

    def seconds(slots: int) -> float:
        setup, speed = benchmark.training(config, slots)
        return setup + tokens / speed

    return runs if seconds(-(-runs // devices) * devices) < seconds(1) else 1


def _worth_measuring(job_runs: Sequence[JobRun]) -> bool:
    """Return whether the runs take long enough, or the machine's peak is unknown."""
    from scaling.utils import machine

    flops = sum(job_run.flops for job_run in job_runs)
    values = job_runs[0].run.values
    assumed = machine.peak_flops(values["model.dtype"]) * values["sweep.assumed_mfu"]
    return not flops / assumed < WORTH_MEASURING  # true for NaN, an unknown peak


def _choose_workers(job_runs: Sequence[JobRun], packs: dict[str, int], options) -> int:
    """Return the number of workers to start; 1 = this process trains all runs itself."""
    import jax

    from scaling.utils import machine

    cores = visible_cores()
    if len(cores) < 2 or len(job_runs) < 2 or options.nodes > 1 or multiprocess.count() > 1:
        return 1
    machine.start_jax(job_runs[0].run.values["parallel.cpu_devices"])
    if jax.default_backend() != "cpu" or not _worth_measuring(job_runs):
        return 1
    # in a pack, too, each device trains its own runs: workers are for runs that no pack can hold
    single = [
        job_run for key, group in jobs.groups(job_runs) if len(group) < 2 for job_run in group
    ]
    if 2 * sum(job_run.flops for job_run in single) < sum(job_run.flops for job_run in job_runs):
        return 1
    return packing_trial.workers(job_runs, packs, cores)
