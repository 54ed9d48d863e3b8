"""How the runs of a sweep share a machine: as the config says, or as measured, once per workdir.

Two things are chosen: how many runs of equal shape share a program, and how many worker processes there are, each on
its share of the cores. The choice stands in `<workdir>/schedule.json` and holds for every later command that names
neither: a packed run and the same run alone agree to float tolerance, and restarts shall agree to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaling.parallel import multiprocess
from scaling.sweep.execute import jobs, packing_trial
from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.launchers.local import visible_cores
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.storage import FolderStorage
from scaling.utils import files
from scaling.utils.errors import UserError

SEATS = 8  # runs of a pack, where the choice is ours
# seconds; below, runs of equal shape are packed unmeasured, since measuring compiles twice, and workers not tried
WORTH_MEASURING = 60.0


@dataclass(frozen=True)
class Packing:
    packs: dict[str, int] | int  # runs per program by `jobs.pack_key`, or one number for all
    workers: int  # processes; 1 = the command's own


def choose(parts: Sequence[JobRun], workdir: Path, options, *, starting: bool = False) -> Packing:
    """The schedule of a sweep's runs. `options` is config.launch; `starting` says that the caller would start workers.

    Raises UserError where `schedule.json` cannot be read.
    """
    if options.pack:
        return Packing(options.pack, max(1, options.workers))
    if options.workers > 1 or options.kind != "local":
        return Packing(1, max(1, options.workers))  # workers share the machine already
    path = workdir / "schedule.json"
    if not path.is_file():
        packs = _packs(parts)
        workers = _workers(parts, packs, options) if starting and not options.workers else 1
        if workers > 1:
            packs = dict.fromkeys(packs, 1)
        content = json.dumps({"packs": packs, "workers": workers}, indent=1) + "\n"
        with files.report_unwritable(path):
            FolderStorage(workdir).create(path.name, content.encode())  # or another was first
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, path.name)
    found = files.read_json(path)
    try:
        packs = {str(key): int(runs) for key, runs in found["packs"].items()}
        workers = int(found.get("workers", 1))  # older files have none
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds no schedule; delete it to have it measured again") from error
    fit = min(workers, len(visible_cores()))  # it may be of another machine
    return Packing(packs, options.workers or (fit if starting else 1))


def _packs(parts: Sequence[JobRun]) -> dict[str, int]:
    """The faster way for every group of runs that could share a program, 1 where none could."""
    chosen: dict[str, int] = {}
    for key, alike in jobs.groups(parts):
        values = alike[0].run.values
        split = any(values[f"parallel.{axis}"] != 1 for axis in ("fsdp", "sequence", "tensor"))
        chosen[key] = max(chosen.get(key, 1), 1 if split or len(alike) < 2 else _faster(alike))
    return chosen


def _faster(alike: Sequence[JobRun]) -> int:
    import jax

    from scaling.training import benchmark
    from scaling.utils import machine

    config = alike[0].run.config
    machine.start_jax(config.parallel.cpu_devices)
    devices = jax.local_device_count()
    runs = min(SEATS, len(alike))
    runs -= runs % devices if runs > devices else 0
    if not _worth_measuring(alike):
        return runs
    tokens = sum(part.tokens for part in alike)

    def seconds(seats: int) -> float:
        setup, speed = benchmark.training(config, seats)
        return setup + tokens / speed

    return runs if seconds(-(-runs // devices) * devices) < seconds(1) else 1


def _worth_measuring(parts: Sequence[JobRun]) -> bool:
    from scaling.utils import machine

    flops = sum(part.flops for part in parts)
    assumed = machine.peak_flops() * parts[0].run.values["sweep.assumed_mfu"]
    return not flops / assumed < WORTH_MEASURING  # nor where no peak is known


def _workers(parts: Sequence[JobRun], packs: dict[str, int], options) -> int:
    """How many workers this process should rather start than train all runs itself, 1 = none."""
    import jax

    from scaling.utils import machine

    cores = visible_cores()
    if len(cores) < 2 or len(parts) < 2 or options.nodes > 1 or multiprocess.count() > 1:
        return 1
    machine.start_jax(parts[0].run.values["parallel.cpu_devices"])
    if jax.default_backend() != "cpu" or not _worth_measuring(parts):
        return 1
    # a pack, too, has each device train runs of its own: workers are for what no pack could take
    single = [part for key, alike in jobs.groups(parts) if len(alike) < 2 for part in alike]
    if 2 * sum(part.flops for part in single) < sum(part.flops for part in parts):
        return 1
    return packing_trial.workers(parts, packs, cores)
