"""Train a study's sweep, fit its table, write its curves, and test its forecast."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.analysis import compute, conditions, forecast_file, registry
from scaling.parallel import multiprocess
from scaling.report import saved_summary
from scaling.study import adaptive, edges, holdout
from scaling.sweep.execute import growth, runner
from scaling.sweep.plan import planner
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json, workdir_url
from scaling.utils import files, machine
from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Written:
    """The summary's lines and the pictures of a fitted study."""

    summary: list[str]
    pictures: list[Path]
    # only for the command's own output
    notes: list[str] = dataclasses.field(default_factory=list)


def train(config: ConfigDict, workdir: Path) -> runner.Outcome:
    """Train all runs of the sweep that have no result and write the table. The sweep may grow.

    An adaptive sweep grows by itself until no budget's best size is at an edge. Raises UserError if
    the workdir belongs to another sweep, Preempted after a signal.
    """
    config, why = sweep_json.adopted(config, workdir), ""
    planner.plan(config)  # refuses a bad plan before anything is written
    machine.start_jax(config.parallel.cpu_devices)
    while True:
        with multiprocess.raise_on_all():
            growth.create_or_grow(config, workdir, why)
        runs = growth.planned(config, workdir)
        outcome = runner.sweep(runs, workdir, config=config)
        wider = adaptive.wider(config, outcome.results)
        if wider is None:
            return outcome
        config, why = wider


def curves(config: ConfigDict, workdir: Path, problems: list[str]) -> Written:
    """Train the sweep, test its forecast and write its curves. An interrupted step resumes."""
    problems.extend(train(config, workdir).problems)
    notes = []
    if config.laws.holdout_factor and has_forecast(config):
        hold_out(config, workdir, problems)
    elif config.laws.holdout_factor:
        notes = [no_forecast(config)]
    written = fit_and_write(config, workdir, problems)
    return dataclasses.replace(written, notes=notes)


def fit_and_write(config: ConfigDict, workdir: Path, problems: list[str]) -> Written:
    """Fit the workdir's runs and write all curves and `summary.txt`, unless they are up to date.

    Damaged results are added to `problems` and left out. Raises UserError if the workdir holds no
    sweep, CannotFit if no run has finished. A refused law leaves its points.
    """
    config = sweep_json.require(config, workdir)
    workdir_url.retry(workdir_url.open_workdir(workdir).pull_results, curves=True)
    rows = runner.write_table(workdir, problems)
    forecast = forecast_file.read(workdir)
    key = _inputs_hash(rows, config, forecast, workdir)
    stamp = saved_summary.stamp(workdir)
    if stamp.get("sha256") == key and not stamp.get("problems"):
        with contextlib.suppress(files.Damaged):  # else it is written again
            lines = saved_summary.summary(workdir)
            return Written(lines, sorted((workdir / "curves").glob("*.png")))
    analysis = registry.analyse(rows, workdir, config)
    problems.extend(analysis.problems)
    lines = [*analysis.lines, *edges.suggest(analysis, config)]
    pictures = registry.write(analysis, workdir, config)
    files.write_bytes(workdir / "summary.txt", ("\n".join(lines) + "\n").encode())
    names = sorted({path.stem for path in pictures})
    for name in set(stamp.get("curves", [])) - set(names):  # curves of a newly refused law
        for ending in ("json", "csv", "svg", "png"):
            (workdir / "curves" / f"{name}.{ending}").unlink(missing_ok=True)
    written = ["summary.txt", *(f"curves/{name}.json" for name in names)]
    content = {
        "sha256": key,
        "commit": machine.commit(),
        "curves": names,
        "written": saved_summary.hashes(workdir, written),
        "problems": list(analysis.problems),  # with some, the next fit finds and reports them again
    }
    files.write_json(workdir / saved_summary.STAMP, content, seal=True)
    return Written(lines, pictures)


def _inputs_hash(rows: list[results.RunResult], config: ConfigDict, forecast, workdir: Path) -> str:
    """Return the SHA-256 of the inputs of the curves: rows, choices, forecast, code."""
    paths = (workdir / "runs" / r.run_id / "metrics.jsonl" for r in rows)
    stats = (path.stat() for path in paths if path.exists())
    content = {
        "rows": [dataclasses.asdict(r) for r in rows],
        "logged": [(stat.st_size, stat.st_mtime_ns) for stat in stats],
        "laws": config.laws.to_dict(),
        "forecast": forecast,
        "code": machine.code_hash(),
        "versions": machine.versions(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def has_forecast(config: ConfigDict) -> bool:
    """Return whether this sweep prescribes a larger run whose loss can be forecast."""
    if config.launch.kind != "local":
        return False
    return config.sweep.kind in holdout.WITH_FORECAST and not conditions.two_prices(config)


def no_forecast(config: ConfigDict) -> str:
    """Return the reason why a sweep has no forecast, in one line."""
    if config.sweep.kind in holdout.WITH_FORECAST and conditions.two_prices(config):
        return f"no held-out run: {conditions.two_prices(config)}"
    if config.sweep.kind in holdout.WITH_FORECAST:
        return (
            f"no held-out run from here: with config.launch.kind={config.launch.kind} this process "
            "would train it itself; run `scaling holdout ... --config.launch.kind=local` in a job "
            "of its own"
        )
    return (
        f"config.sweep.kind={config.sweep.kind!r} has no held-out run: only kind='compute' "
        "prescribes one, at config.laws.holdout_factor times its largest budget"
    )


def hold_out(config: ConfigDict, workdir: Path, problems: list[str]) -> None:
    """Seal the forecast once, then train the run that it predicts.

    Problems of single runs are added to `problems`. Raises UserError if the sweep has no
    forecast or has unfinished runs.
    """
    if not has_forecast(config):
        raise UserError(no_forecast(config))
    if not config.laws.holdout_factor:
        raise UserError(
            "config.laws.holdout_factor is not set; set it to 3 or more for a held-out run"
        )
    config = sweep_json.require(config, workdir)
    machine.start_jax(config.parallel.cpu_devices)
    workdir_url.retry(workdir_url.open_workdir(workdir).pull_results, curves=True)
    rows = runner.write_table(workdir, problems)
    forecast = forecast_file.read(workdir)
    if forecast is None:
        missing = _missing(planner.plan(config), workdir, rows)
        if missing:
            raise UserError(
                f"{len(missing)} runs of the sweep have no result (first {missing[0]}); run "
                "`scaling sweep` before the forecast is sealed"
            )
        fits = compute.fit(rows, workdir, config)
        problems.extend(fits.problems)
        forecast = holdout.seal(fits, config, workdir)
    outcome = runner.sweep([holdout.planned(forecast, config)], workdir, role="holdout")
    problems.extend(p for p in outcome.problems if p not in problems)


def without_result(config: ConfigDict, workdir: Path) -> list[str]:
    """Return a line on planned runs that have no result, none without them.

    A sweep that cannot be planned here, such as one whose design file is elsewhere, has no line.
    """
    try:
        runs = planner.plan(config)
    except UserError:
        return []
    rows, _ = results.read_table(workdir / "runs.csv")
    missing = _missing(runs, workdir, rows)
    if not missing:
        return []
    return [
        f"{len(missing)} of {len(runs)} planned runs have no result (first {missing[0]}); the laws "
        "are of the others; `scaling sweep` trains them"
    ]


def _missing(runs: Sequence[PlannedRun], workdir: Path, rows: list[results.RunResult]) -> list[str]:
    """Return the planned runs that have neither ended nor failed in this workdir."""
    ended = {r.run_id for r in rows}
    names = [runner.run_dir(workdir, run).name for run in runs]
    return [
        n for n in names if n not in ended and not (workdir / "runs" / n / "result.json").is_file()
    ]
