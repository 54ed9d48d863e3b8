"""The check that a law extrapolates: a forecast, sealed on disk, then the run that tests it.

`<workdir>/forecast.json` is written once, before the run starts, with a hash of the table it was fitted
on. It is never written again: a later fit on more runs does not change what was forecast.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling import files
from scaling.curves import Fits
from scaling.laws.table import CannotFit
from scaling.sweep import ladder
from scaling.sweep.plan import PlannedRun, at_budget


def prescribe(fits: Fits, config: ConfigDict) -> PlannedRun:
    """The run that the parametric law prescribes at holdout_factor times the largest budget.

    Of all widths that the ladder's rounding allows, the one whose predicted loss at that budget is
    lowest. Raises CannotFit where there is no parametric law to ask.
    """
    if fits.chinchilla is None:
        raise CannotFit(f"held-out run: {fits.refused['chinchilla']}")
    budget = config.laws.holdout_factor * max(config.sweep.budgets)
    multiple = config.sweep.width_multiple
    widest = max(rung.width for rung in ladder.ladder(config)) * 4
    runs = [
        at_budget(config, ladder.rung_of_width(config, width), budget)
        for width in range(multiple, widest + 1, multiple)
    ]
    return min(runs, key=lambda run: _predicted(fits, run, config).value)


def _predicted(fits: Fits, run: PlannedRun, config: ConfigDict):
    size = _sizes(run)[config.laws.n_params]
    return fits.chinchilla.prediction_interval(size, run.tokens)


def _sizes(run: PlannedRun) -> dict[str, int]:
    from scaling import accounting

    return accounting.param_counts(accounting.shape_of(run.config))


def seal(fits: Fits, config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """The forecast of `workdir`: the one there is, or a new one, written before this returns."""
    from scaling import config as config_lib
    from scaling import train

    path = workdir / "forecast.json"
    if path.is_file():
        return files.read_json(path)
    run = prescribe(fits, config)
    forecast: dict[str, Any] = {
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "run_id": train.run_id(run.config),
        "config": config_lib.to_json(run.config),
        "flops": run.flops,
        "tokens": run.tokens,
        **_sizes(run),
        "law": fits.chinchilla.equation,
        "parameters": fits.chinchilla.values,
        "predicted_loss": _predicted(fits, run, config).as_dict(),
        "confidence": config.laws.confidence,
        "fitted_on": {"sha256": fits.table.hash(), "runs": list(fits.table.names)},
    }
    if fits.isoflop:
        power = fits.isoflop.frontier
        forecast["isoflop_frontier_loss"] = power.predict_interval(
            run.flops, config.laws.confidence
        ).as_dict()
        forecast["isoflop_n_opt"] = fits.isoflop.n_opt.predict_interval(
            run.flops, config.laws.confidence
        ).as_dict()
    files.write_json(path, forecast)
    return forecast


def planned(forecast: dict[str, Any], config: ConfigDict) -> PlannedRun:
    """The run that a sealed forecast is about."""
    from scaling import config as config_lib
    from scaling.sweep import plan

    budget = config.laws.holdout_factor * max(config.sweep.budgets)
    return plan.planned(config_lib.from_json(forecast["config"]), budget)
