"""The check that a law extrapolates: a forecast, sealed on disk, then the run that tests it.

`<workdir>/forecast.json` is written once, before the run starts, with a hash of the table it was fitted
on. It is never written again: a later fit on more runs does not change what was forecast.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling import accounting
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


def prescribe(fits: Fits, config: ConfigDict) -> PlannedRun:
    """The run at holdout_factor times the largest budget, at the size that the laws prescribe.

    The size is the geometric mean of the N* of the parametric law and of the IsoFLOP minima (of one
    where the other could not be fitted); of all widths that the ladder's rounding allows, the nearest.
    """
    budget = config.laws.holdout_factor * max(config.sweep.budgets)
    multiple = config.sweep.width_multiple
    widest = max(rung.width for rung in ladder.ladder(config)) * 4
    runs: list[PlannedRun] = []
    refused: UserError | None = None
    for width in range(multiple, widest + 1, multiple):
        try:
            runs.append(at_budget(config, ladder.rung_of_width(config, width), budget))
        except UserError as error:  # too wide for a step of this budget, or no model (odd heads)
            refused = refused or error
    if refused and not runs:
        raise refused
    sizes = prescribed_sizes(fits, budget)
    wanted = float(np.mean(np.log(list(sizes.values()))))

    def distance(run: PlannedRun) -> float:
        return abs(float(np.log(_sizes(run)[config.laws.n_params])) - wanted)

    return min(runs, key=distance)


def prescribed_sizes(fits: Fits, flops: float) -> dict[str, float]:
    """N* at `flops` by each law that was fitted. Raises CannotFit where none was."""
    found = {}
    if fits.chinchilla:
        found["chinchilla"] = frontier(fits.chinchilla, fits.table, [flops])[0].n_params.value
    if fits.isoflop:
        found["isoflop"] = float(fits.isoflop.n_opt.predict(flops))
    if not found:
        raise CannotFit("held-out run: " + "; ".join(fits.refused.values()))
    return found


def _sizes(run: PlannedRun) -> dict[str, int]:
    return accounting.param_counts(accounting.shape_of(run.config))


def read(workdir: Path) -> dict[str, Any] | None:
    """The sealed forecast of `workdir`, None where there is none; losses that it could not know are NaN.

    Raises UserError where it is damaged.
    """
    path = workdir / "forecast.json"
    if not path.is_file():
        return None
    found = files.read_json(path)
    for loss in (found["predicted_loss"], *(law["loss"] for law in found["laws"].values())):
        loss.update({k: float("nan") for k, v in loss.items() if v is None})
    return found


def seal(fits: Fits, config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """The forecast of `workdir`: the one there is, or a new one, written before this returns."""
    if found := read(workdir):
        return found
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
    files.write_json(workdir / "forecast.json", content)
    # on an object store another machine's may have been first, and then stands here
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, "forecast.json")
    sealed = read(workdir)
    assert sealed is not None
    return sealed


def planned(forecast: dict[str, Any], config: ConfigDict) -> PlannedRun:
    """The run that a sealed forecast is about."""
    budget = config.laws.holdout_factor * max(config.sweep.budgets)
    return planner.plan_run(config_lib.from_json(forecast["config"]), budget)
