"""How many runs of equal shape share a program: as the config says, or as measured, once per workdir.

The choice stands in `<workdir>/schedule.json` and holds for every later command on it: a packed run and
the same run alone agree to float tolerance, and restarts shall agree to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from scaling import files
from scaling.sweep import jobs, remote
from scaling.sweep.jobs import Part
from scaling.sweep.storage import FolderStorage

SEATS = 8  # runs of a pack, where the choice is ours
WORTH_MEASURING = 60.0  # seconds; smaller groups are packed unmeasured: measuring compiles twice


def packs(parts: Sequence[Part], workdir: Path, options) -> dict[str, int] | int:
    """Runs per program by `jobs.pack_key`, or one number for all. `options` is config.launch.

    Raises UserError where `schedule.json` cannot be read.
    """
    if options.pack:
        return options.pack
    if options.workers > 1 or options.kind != "local":
        return 1  # workers share the machine already
    path = workdir / "schedule.json"
    if not path.is_file():
        content = json.dumps({"packs": _chosen(parts)}, indent=1) + "\n"
        with files.writing(path):
            FolderStorage(workdir).create(path.name, content.encode())  # or another was first
    remote.insist(remote.open_workdir(workdir).push_table, path.name)
    return files.read_json(path)["packs"]


def _chosen(parts: Sequence[Part]) -> dict[str, int]:
    """The faster way for every group of runs that could share a program, 1 where none could."""
    chosen: dict[str, int] = {}
    for key, alike in jobs.groups(parts):
        values = alike[0].run.values
        split = any(values[f"parallel.{axis}"] != 1 for axis in ("fsdp", "sequence", "tensor"))
        chosen[key] = max(chosen.get(key, 1), 1 if split or len(alike) < 2 else _faster(alike))
    return chosen


def _faster(alike: Sequence[Part]) -> int:
    import jax

    from scaling import machine, measure

    config = alike[0].run.config
    machine.start_jax(config.parallel.cpu_devices)
    devices = jax.local_device_count()
    runs = min(SEATS, len(alike))
    runs -= runs % devices if runs > devices else 0
    flops = sum(part.flops for part in alike)
    if flops / (machine.peak_flops() * config.sweep.assumed_mfu) < WORTH_MEASURING:
        return runs
    tokens = sum(part.steps * part.run.tokens / part.run.steps for part in alike)
    alone, packed = measure.measure(config), measure.measure(config, -(-runs // devices) * devices)

    def seconds(size) -> float:
        return size.setup_seconds + tokens / size.tokens_per_second

    return runs if seconds(packed) < seconds(alone) else 1
