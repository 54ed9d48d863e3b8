"""Runs a plan in this process, one run after another. Killed anywhere, the same command goes on.

Runs of one size follow each other, so that one compiled program serves them all. A run that fails or
diverges ends alone, with its reason in its row of the table.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict
from tqdm import tqdm

from scaling import config as config_lib
from scaling import files, results
from scaling.errors import Preempted, UserError
from scaling.sweep.plan import PlannedRun

log = logging.getLogger("scaling")


@dataclass(frozen=True)
class Outcome:
    """What a sweep left: the table's rows, and one line per thing that went wrong."""

    results: list[results.RunResult]
    problems: list[str]


def claim_workdir(config: ConfigDict, workdir: Path) -> None:
    """Write `<workdir>/sweep.json`, or check that the one there is of the same sweep.

    Raises UserError naming the keys that differ.
    """
    path = workdir / "sweep.json"
    if path.is_file():
        found = config_lib.from_json(files.read_json(path))
        if config_lib.sweep_hash(found) == config_lib.sweep_hash(config):
            return
        kept = config_lib.without(config, config_lib.NOT_IN_SWEEP_HASH)
        other = config_lib.without(found, config_lib.NOT_IN_SWEEP_HASH)
        changed = [key for key in kept if kept[key] != other.get(key)]
        raise UserError(
            f"--workdir={workdir} belongs to another sweep ({found.name}); it differs in "
            f"{', '.join(changed[:5])}; choose another --workdir, or the config it was made with"
        )
    files.write_json(path, config_lib.to_json(config))


def run_dir(workdir: Path, run: PlannedRun) -> Path:
    return workdir / "runs" / run.run_id


def sweep(runs: list[PlannedRun], workdir: Path, role: str = "sweep") -> Outcome:
    """Train all runs that have no result yet and write the table.

    Raises UserError where data or mesh are wrong for all of them, and Preempted after a signal; the
    run that it met is saved and the same call goes on with it.
    """
    from scaling import sharding, train
    from scaling.data import prepare

    problems: list[str] = []
    if not all((run_dir(workdir, run) / "result.json").exists() for run in runs):
        # What is wrong for every run is said once, before any of them starts.
        _check_data(prepare.prepare(runs[0].config.data).fingerprint, runs, workdir)
        sharding.make_mesh(runs[0].config.parallel)
    # unit: FLOPs, since runs differ in cost by orders of magnitude
    with tqdm(
        total=sum(r.flops for r in runs), unit="FLOP", unit_scale=True, desc="sweep", disable=None
    ) as bar:
        for index, run in enumerate(runs):
            folder = run_dir(workdir, run)
            per_token = run.flops / run.tokens
            reported = 0.0

            def progress(tokens: int, per_token=per_token) -> None:
                nonlocal reported
                reported += tokens * per_token
                bar.update(tokens * per_token)

            known = (folder / "result.json").exists()
            try:
                result = train.train_run(
                    run.config, folder, role=role, budget=run.budget, on_progress=progress
                )
            except Preempted:
                raise
            except results.DamagedResult as error:
                problems.append(f"{error}; skipped, delete it to train that run again")
            except Exception as error:  # whatever a run dies of, its siblings go on
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
                log.debug("run %s failed", folder.name, exc_info=True)
                _write_failure(run, folder, role, reason)
                problems.append(f"{folder.name}: {reason}")
            else:
                if result.status != "done":
                    problems.append(f"{result.run_id}: {result.status}, {result.reason}")
                loss = f"{result.loss:.4f}" if result.loss is not None else result.status
                bar.set_postfix_str(f"{index + 1}/{len(runs)} loss {loss}", refresh=False)
                if bar.disable and not known:
                    print(
                        f"[{index + 1}/{len(runs)}] {result.run_id}  loss {loss}  "
                        f"{result.wall_time:.1f} s",
                        flush=True,
                    )
            bar.update(max(0.0, run.flops - reported))
    return Outcome(write_table(workdir, problems), problems)


def _check_data(fingerprint: str, runs: list[PlannedRun], workdir: Path) -> None:
    """Raises UserError where a run of this plan has a result on other tokens."""
    planned = {run_dir(workdir, run).name for run in runs}
    for result in results.collect(workdir)[0]:
        if result.run_id in planned and result.data_fingerprint != fingerprint:
            raise UserError(
                f"--workdir={workdir}: {result.run_id} was trained on other data "
                f"({result.data_fingerprint}, now {fingerprint}); restore the documents, or choose "
                "another --workdir"
            )


def write_table(workdir: Path, problems: list[str]) -> list[results.RunResult]:
    """The table of all runs below `workdir`; damaged results are added to `problems` once."""
    found, damaged = results.collect(workdir)
    problems.extend(line for line in damaged if line not in problems)
    results.write_table(workdir, found)
    return found


def _write_failure(run: PlannedRun, folder: Path, role: str, reason: str) -> None:
    from scaling import train
    from scaling.data import prepare

    try:
        data = prepare.prepare(run.config.data)
        row = train.describe(run.config, data, role=role, budget=run.budget)
        row = dataclasses.replace(row, reason=reason)
        files.write_json(folder / "failure.json", dataclasses.asdict(row))
    except (OSError, UserError):
        log.warning("warning: the failure of %s could not be written", folder)
