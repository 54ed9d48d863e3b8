"""Seal a forecast on disk, then plan the run that tests it.

`<workdir>/forecast.json` is written once, before the run starts, with the hash of the fitted table.
It is never written again: a later fit on more runs does not change the forecast.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling import accounting
from scaling.analysis import forecast_file
from scaling.analysis.compute import Fits
from scaling.config import load as config_lib
from scaling.laws.frontier import frontier
from scaling.laws.holdout_forecast import combine
from scaling.laws.table import CannotFit
from scaling.sweep.plan import ladder, planner
from scaling.sweep.plan.planner import PlannedRun, at_budget
from scaling.sweep.shared import workdir_url
from scaling.training import loop
from scaling.utils import files
from scaling.utils.errors import UserError

WITH_FORECAST = ("compute",)  # kinds of sweep that prescribe a larger run


def prescribe(fits: Fits, config: ConfigDict) -> PlannedRun:
    """Plan the run at holdout_factor times the largest budget, at the size that the laws prescribe.

    The size is the geometric mean of the N* of the parametric law and of the IsoFLOP minima, or the
    N* of the one that was fitted. The run has the nearest width that the ladder's rounding allows.
    Raises UserError if no width fits the budget, CannotFit without any law.
    """
    budget = config.laws.holdout_factor * max(config.sweep.budgets)
    multiple = config.sweep.width_multiple
    widest = max(rung.width for rung in ladder.ladder(config)) * 4
    runs: list[PlannedRun] = []
    refused: UserError | None = None
    for width in range(multiple, widest + 1, multiple):
        try:
            rung = ladder.rung_of_width(config, width)
        except UserError as error:  # no model, such as of odd heads
            refused = refused or error
            continue
        try:
            runs.append(at_budget(config, rung, budget))
        except UserError as error:  # too wide for the budget, and so are the next ones
            refused = refused or error
            break
    if refused and not runs:
        raise refused
    sizes = prescribed_sizes(fits, budget)
    target = float(np.mean(np.log(list(sizes.values()))))

    def distance(run: PlannedRun) -> float:
        return abs(float(np.log(_sizes(run)[config.laws.n_params])) - target)

    return min(runs, key=distance)


def prescribed_sizes(fits: Fits, flops: float) -> dict[str, float]:
    """Return N* at `flops` by each fitted law. Raises CannotFit if no law was fitted."""
    sizes = {}
    if fits.chinchilla:
        sizes["chinchilla"] = frontier(fits.chinchilla, fits.table, [flops])[0].n_params.value
    if fits.isoflop:
        sizes["isoflop"] = float(fits.isoflop.n_opt.predict(flops))
    if not sizes:
        raise CannotFit("held-out run: " + "; ".join(fits.refused.values()))
    return sizes


def _sizes(run: PlannedRun) -> dict[str, int]:
    """Return the parameter counts of a planned run by convention."""
    return accounting.param_counts(accounting.shape_of(run.config))


def seal(fits: Fits, config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Return the forecast of `workdir`, after writing a new one if it has none."""
    if forecast_on_disk := forecast_file.read(workdir):
        return forecast_on_disk
    run = prescribe(fits, config)
    sizes, shape = _sizes(run), accounting.shape_of(run.config)
    flops = accounting.training_flops(shape, run.tokens)[config.laws.flops]
    forecast = combine(
        fits.table,
        fits.long_runs,
        fits.chinchilla,
        fits.isoflop,
        n_params=sizes[config.laws.n_params],
        tokens=run.tokens,
        flops=flops,
        delta=config.laws.huber_delta,
        confidence=config.laws.confidence,
    )
    content: dict[str, Any] = {
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run_id": loop.run_id(run.config),
        "config": config_lib.to_json(run.config),
        "flops": flops,
        "tokens": run.tokens,
        **sizes,
        "prescribed_n_params": prescribed_sizes(fits, flops),
        "predicted_loss": forecast.loss.as_dict(),
        "confidence": config.laws.confidence,
        "laws": {
            name: {
                "loss": member.as_dict(),
                "weight": forecast.weights[name],
                "backtest_log_errors": forecast.errors[name],
            }
            for name, member in forecast.members.items()
        },
        "notes": list(forecast.notes),
        "parameters": fits.chinchilla.values if fits.chinchilla else None,
        "fitted_on": {"sha256": fits.table.hash(), "runs": list(fits.table.names)},
    }
    files.write_json(workdir / "forecast.json", content, seal=True)
    # on an object store, the forecast of another machine may be first and replace this file
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, "forecast.json")
    sealed = forecast_file.read(workdir)
    assert sealed is not None
    return sealed


def planned(forecast: dict[str, Any], config: ConfigDict) -> PlannedRun:
    """Plan the run that a sealed forecast predicts."""
    sealed = config_lib.from_json(forecast["config"])  # the sweep may have grown since
    return planner.plan_run(sealed, sealed.laws.holdout_factor * max(sealed.sweep.budgets))
