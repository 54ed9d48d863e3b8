"""A study on disk: fit its table, seal and test its forecast, report, and tell how far it is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.analysis import compute, registry
from scaling.config import constraints
from scaling.report import saved_summary, summary
from scaling.study import holdout
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.sweep.shared import sweep_json, workdir_url
from scaling.utils import files, machine
from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Written:
    """What `fit_and_write` left: the summary's lines and the pictures."""

    summary: list[str]
    pictures: list[Path]


def fit_and_write(config: ConfigDict, workdir: Path, problems: list[str]) -> Written:
    """Fit the workdir's runs, write all curves and `summary.txt`; nothing where they are up to date.

    Damaged results are named in `problems` and left out. Raises UserError where there is no sweep here,
    CannotFit where its runs determine no law.
    """
    sweep_json.require(config, workdir)
    workdir_url.retry(workdir_url.open_workdir(workdir).pull_results, curves=True)
    rows = runner.write_table(workdir, problems)
    forecast = holdout.read(workdir)
    key, stamp = _inputs_hash(rows, config, forecast), workdir / "curves" / "inputs.json"
    if stamp.is_file() and files.read_json(stamp)["sha256"] == key:
        return Written(saved_summary.summary(workdir), sorted((workdir / "curves").glob("*.png")))
    if config.sweep.kind in registry.KINDS:
        analysis = registry.KINDS[config.sweep.kind](rows, workdir, config)
        pictures, lines = registry.write(analysis, workdir, config), analysis.lines
    else:
        pictures, lines = _fit_compute(rows, workdir, config, forecast)
    files.write_bytes(workdir / "summary.txt", ("\n".join(lines) + "\n").encode())
    written = sorted({path.stem for path in pictures})
    for name in set(_curves_of(stamp)) - set(written):  # of a law that is refused now
        for ending in ("json", "csv", "svg", "png"):
            (stamp.parent / f"{name}.{ending}").unlink(missing_ok=True)
    files.write_json(stamp, {"sha256": key, "commit": machine.commit(), "curves": written})
    return Written(lines, pictures)


def _curves_of(stamp: Path) -> list[str]:
    """Names of the curves that the last fit wrote."""
    return files.read_json(stamp).get("curves", []) if stamp.is_file() else []


def _fit_compute(rows, workdir: Path, config: ConfigDict, forecast) -> tuple[list[Path], list[str]]:
    """(pictures, summary) of a compute sweep: all approaches, and the forecast with its test."""
    fits = compute.fit(rows, workdir, config)
    tested = [r for r in rows if forecast and r.run_id == forecast["run_id"] and r.status == "done"]
    held_out = tested[0] if tested else None
    pictures = compute.write(fits, workdir, config, forecast, held_out)
    return pictures, summary.lines(fits, forecast, held_out, constraints.UNITS[config.data.field])


def _inputs_hash(rows: list[results.RunResult], config: ConfigDict, forecast) -> str:
    """SHA-256 of everything that the curves are made from: rows, choices, forecast, code."""
    content = {
        "rows": [dataclasses.asdict(r) for r in rows],
        "laws": config.laws.to_dict(),
        "forecast": forecast,
        "code": machine.code_hash(),
        "versions": machine.versions(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def has_forecast(config: ConfigDict) -> bool:
    """Whether this sweep prescribes a run beyond itself, whose loss can be forecast."""
    if config.launch.kind != "local":
        return False
    return config.sweep.kind in constraints.WITH_FORECAST and not compute.two_prices(config)


def no_forecast(config: ConfigDict) -> str:
    """Why there is none, in one line."""
    if config.sweep.kind in constraints.WITH_FORECAST and compute.two_prices(config):
        return f"no held-out run: {compute.two_prices(config)}"
    if config.sweep.kind in constraints.WITH_FORECAST:
        return (
            f"no held-out run from here: with config.launch.kind={config.launch.kind} its command would train it "
            "itself; run `scaling holdout ... --config.launch.kind=local` in a job of its own"
        )
    return (
        f"config.sweep.kind={config.sweep.kind!r} has no held-out run: only kind='compute' prescribes one, at "
        "config.laws.holdout_factor times its largest budget"
    )


def hold_out(config: ConfigDict, workdir: Path, problems: list[str]) -> None:
    """Seal the forecast (once), then train the run that it is about."""
    if not has_forecast(config):
        raise UserError(no_forecast(config))
    if not config.laws.holdout_factor:
        raise UserError("config.laws.holdout_factor is 0; set it to 3 or more for a held-out run")
    sweep_json.require(config, workdir)
    workdir_url.retry(workdir_url.open_workdir(workdir).pull_results, curves=True)
    rows = runner.write_table(workdir, problems)
    forecast = holdout.read(workdir)
    if forecast is None:
        missing = _missing(config, workdir, rows)
        if missing:
            raise UserError(
                f"{len(missing)} runs of the sweep have no result (first {missing[0]}); run "
                "`scaling sweep` before the forecast is sealed"
            )
        fits = compute.fit(rows, workdir, config)
        forecast = holdout.seal(fits, config, workdir)
    outcome = runner.sweep([holdout.planned(forecast, config)], workdir, role="holdout")
    problems.extend(p for p in outcome.problems if p not in problems)


def _missing(config: ConfigDict, workdir: Path, rows: list[results.RunResult]) -> list[str]:
    """Planned runs that have neither ended nor failed in this workdir."""
    ended = {r.run_id for r in rows}
    names = [runner.run_dir(workdir, run).name for run in planner.plan(config)]
    return [
        n for n in names if n not in ended and not (workdir / "runs" / n / "result.json").is_file()
    ]


def show(written: Written) -> None:
    for line in written.summary:
        print(line)
    print("Pictures")
    for path in written.pictures:
        print(f"  {path}")
