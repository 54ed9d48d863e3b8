"""Let a sweep grow: accept a config that adds or removes runs of a workdir and changes none.

Runs that a growth adds form a round of their own. They share trunks and packs only with each other,
so earlier runs keep their jobs and their bits, also while workers train them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import logging
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling import results
from scaling.config import hashing
from scaling.config.keys import encode
from scaling.parallel import multiprocess
from scaling.sweep.plan import planner
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json, workdir_url
from scaling.sweep.shared.claims import Claims
from scaling.sweep.shared.storage import is_remote
from scaling.utils.errors import UserError

log = logging.getLogger("scaling")

CLAIM = "growth"  # held while sweep.json is replaced
# The keys that list runs. Another value adds and removes runs.
GROWING = {
    f"sweep.{key}"
    for key in (
        "budgets", "sizes_per_budget", "rungs", "tokens", "tokens_per_param", "unique_tokens",
        "seeds", "lr_factors", "lr_values", "batch_sizes", "grid_values", "random_count",
        "design_file", "extra_sizes",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Growth:
    """The difference between a workdir's sweep and a config."""

    changed: dict[str, list[Any]]  # key -> [old value, new value]
    added: list[str]  # run ids
    removed: list[str]

    def __str__(self) -> str:
        return (
            f"{len(self.added)} runs added, {len(self.removed)} no longer planned "
            f"({', '.join(self.changed)})"
        )


def create_or_grow(config: ConfigDict, workdir: Path, why: str = "") -> None:
    """Write the workdir's sweep.json, or let its sweep grow to `config`.

    The history keeps `why`, the reason of a growth that no user asked for. Raises UserError if the
    config is not of this sweep and no growth of it.
    """
    if not multiprocess.writer():
        return
    config = sweep_json.adopted(config, workdir)
    if sweep_json.is_of(config, workdir):
        return
    options = config.launch
    claims = Claims(
        workdir_url.open_workdir(workdir).claims,
        heartbeat=options.heartbeat_seconds,
        stale_after=options.stale_seconds,
    )
    compare(config, workdir)  # refuse before anything is written
    claim = claims.take(CLAIM, uuid.uuid4().hex[:12])
    if claim is None:
        raise UserError(
            f"--workdir={workdir}: another command lets this sweep grow; run this one again"
        )
    with claim:
        growth = compare(config, workdir)
        if growth is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        reason = {"why": why} if why else {}
        sweep_json.grow(config, workdir, {"date": now, **reason, **dataclasses.asdict(growth)})
    log.warning("the sweep grows: %s%s", growth, why and f", {why}")
    if (workdir / "forecast.json").is_file():
        log.warning(
            "warning: the forecast was sealed before and stays; it is of the earlier runs alone"
        )


def compare(config: ConfigDict, workdir: Path) -> Growth | None:
    """Return how the workdir's sweep would grow, None if it is the same. Writes nothing.

    Raises UserError naming the keys and the runs if existing runs would change.
    """
    stored = sweep_json.read(workdir)
    differing = sweep_json.differing(config, stored)
    if not differing:
        return None
    if fixed := [key for key in differing if key not in GROWING]:
        raise sweep_json.other_sweep(workdir, stored, fixed, _changed_runs(stored, config))
    if config.sweep.halving:
        reason = "; a sweep under successive halving cannot grow, since runs are compared"
        raise sweep_json.other_sweep(workdir, stored, differing, reason)
    if is_remote(workdir_url.open_workdir(workdir).name):
        reason = "; a sweep on an object store cannot grow yet"
        raise sweep_json.other_sweep(workdir, stored, differing, reason)
    before, after = ([run.run_id for run in planner.plan(c)] for c in (stored, config))
    if not set(before) & set(after):
        reason = f"; none of its {len(before)} runs would stay"
        raise sweep_json.other_sweep(workdir, stored, differing, reason)
    ours, theirs = hashing.sweep_values(config), hashing.sweep_values(stored)
    return Growth(
        {key: [encode(key, theirs[key]), encode(key, ours[key])] for key in differing},
        sorted(set(after) - set(before)),
        sorted(set(before) - set(after)),
    )


def planned(config: ConfigDict, workdir: Path | None) -> list[PlannedRun]:
    """Return the plan of a config with the round that added each run to the workdir's sweep."""
    if workdir is None or not (workdir / sweep_json.NAME).is_file():
        return planner.plan(config)
    config = sweep_json.adopted(config, workdir)
    runs = planner.plan(config)
    history = sweep_json.history(workdir)
    rounds: dict[str, int] = {}
    for number, entry in enumerate(history, 1):
        for run_id in entry["added"]:
            rounds.setdefault(run_id, number)
    growth = compare(config, workdir)
    for run_id in growth.added if growth else ():
        rounds.setdefault(run_id, len(history) + 1)
    return [dataclasses.replace(run, round=rounds.get(run.run_id, 0)) for run in runs]


def done(runs: list[PlannedRun], workdir: Path) -> str:
    """Return the line "12 of 18 runs are done" for a workdir."""
    ended = {r.run_id for r in results.collect(workdir)[0] if r.status == "done"}
    return f"{sum(run.run_id in ended for run in runs)} of {len(runs)} runs are done"


def _changed_runs(stored: ConfigDict, config: ConfigDict) -> str:
    """Return how many runs of the stored sweep the config would change, and the first."""
    with contextlib.suppress(UserError):
        kept = {run.run_id for run in planner.plan(config)}
        changed = [run.run_id for run in planner.plan(stored) if run.run_id not in kept]
        if changed:
            return f"; {len(changed)} runs would change (first {changed[0]})"
    return ""
