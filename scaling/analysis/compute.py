"""Analyse compute sweeps: all approaches of Hoffmann et al. 2022 and the tested forecast."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import columns, conditions, edges, forecast_file, run_table
from scaling.analysis.saved_curve import Analysis, SavedCurve
from scaling.config import field_traits
from scaling.laws import api as laws
from scaling.laws import to_text
from scaling.laws.envelope import Curve
from scaling.laws.frontier import Optimum, frontier
from scaling.laws.table import CannotFit, Table
from scaling.report import summary, sweep
from scaling.results import RunResult
from scaling.utils import files

FRONTIER_POINTS = 41
BEYOND = 1.5  # factor in compute by which the frontier reaches beyond the runs at either end


@dataclass(frozen=True)
class Fits:
    """All laws of one sweep. A law without a fit is None, and `refused` has the reason."""

    table: Table
    long_runs: Table  # at least laws.min_steps steps long; L(N, D) is fitted to these
    curves: list[Curve]
    isoflop: laws.IsoflopFit | None
    chinchilla: laws.Fit | None
    envelope: laws.EnvelopeFit | None
    frontier: list[Optimum]  # of the parametric law, over the plotted range of compute
    refused: dict[str, str]
    conditions: dict[str, Any] = field(default_factory=dict)  # how the runs were trained
    edges: list[dict[str, Any]] = field(default_factory=list)  # budgets whose best size is extreme
    problems: tuple[str, ...] = ()  # one line per file of rows with damaged lines


def compute(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Analysis:
    """Return the curves of all approaches, with the workdir's forecast and the run that tests it.

    Refused laws leave the points. Raises CannotFit if no run has finished.
    """
    fits = fit(rows, workdir, config)
    forecast = forecast_file.read(workdir)
    matches = [
        r for r in rows if forecast and r.run_id == forecast["run_id"] and r.status == "done"
    ]
    held_out = matches[0] if matches else None
    contents = sweep.contents(fits, forecast, held_out, columns.labels(config))
    used, left_out = run_table.usable(rows)
    return Analysis(
        curves={name: SavedCurve(*entry) for name, entry in contents.items()},
        lines=summary.lines(fits, forecast, held_out, field_traits.UNITS[config.data.field]),
        used=used,
        left_out=left_out,
        ranges=to_text.ranges(fits.table, ("n_params", "tokens", "flops")),
        table=fits.table,
        held_out=_measured(forecast, held_out, config),
        problems=fits.problems,
    )


def fit(rows: list[RunResult], workdir: Path, config: ConfigDict) -> Fits:
    """Fit every law that the table allows. Raises CannotFit if no run has finished."""
    table = run_table.sweep_table(rows, config)
    if len(table) == 0:
        raise CannotFit(f"{workdir}: no finished run of a sweep; run `scaling sweep` first")
    long_runs = run_table.sweep_table(rows, config, config.laws.min_steps)
    options = {"bootstrap": config.laws.bootstrap, "confidence": config.laws.confidence}
    problems: list[str] = []
    training = training_curves(rows, workdir, config, problems)
    refused: dict[str, str] = {}

    def attempt(name: str, fitter, *args, **kwargs):
        try:
            return fitter(*args, **kwargs, **options)
        except CannotFit as error:
            refused[name] = str(error)
            return None

    chinchilla = attempt(
        "chinchilla", laws.fit_chinchilla, long_runs, delta=config.laws.huber_delta
    )
    if conditions.two_prices(config):
        refused["isoflop"] = f"isoflop: {conditions.two_prices(config)}"
    isoflop = None if refused.get("isoflop") else attempt("isoflop", laws.fit_isoflop, table)
    budgets = table.budget[table.budget > 0]
    envelope = attempt(
        "envelope",
        laws.fit_envelope,
        training,
        smoothing=config.laws.smoothing,
        flops_range=_span(table.flops if conditions.two_prices(config) else budgets),
    )
    return Fits(
        table=table,
        long_runs=long_runs,
        curves=training,
        isoflop=isoflop,
        chinchilla=chinchilla,
        envelope=envelope,
        frontier=optima(chinchilla, table, config),
        refused=refused,
        edges=[] if conditions.two_prices(config) else edges.of_budgets(table),
        conditions=conditions.stated(run_table.usable(rows)[0], config),
        problems=tuple(problems),
    )


def _span(values: np.ndarray) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if len(values) else None


def optima(law: laws.Fit | None, table: Table, config: ConfigDict) -> list[Optimum]:
    """Return a law's compute-optimal runs, from below the runs to beyond the held-out one."""
    if law is None:
        return []
    factor = max(config.laws.holdout_factor or 1.0, 1.0) * BEYOND
    low, high = table.flops.min() / BEYOND, table.flops.max() * factor
    return frontier(law, table, np.geomspace(low, high, FRONTIER_POINTS))


def training_curves(
    rows: list[RunResult], workdir: Path, config: ConfigDict, problems: list[str]
) -> list[Curve]:
    """Return the logged training losses of every finished sweep run, in order of tokens.

    Files with damaged lines are added to `problems`.
    """
    curves = []
    for r in run_table.usable(rows)[0]:
        path = workdir / "runs" / r.run_id / "metrics.jsonl"
        logged = files.read_lines(path, "step", ("tokens", "loss"), problems)
        if lacking := _lacking(logged, r):
            problems.append(f"{path}: {lacking}; its curve is left out")
            continue
        tokens = np.array([row["tokens"] for row in logged], float)
        per_token = getattr(r, config.laws.flops) / r.tokens
        loss = np.array([row["loss"] for row in logged])
        size = float(getattr(r, config.laws.n_params))
        curves.append(Curve(r.run_id, size, tokens, tokens * per_token, loss))
    return curves


def _lacking(logged: list[dict[str, Any]], result: RunResult) -> str:
    """Return why the rows are not the whole curve of a finished run, "" if they are."""
    if not logged:
        return "no rows of a finished run"
    if logged[-1]["tokens"] != result.tokens:
        return f"its last row is at {logged[-1]['tokens']:.6g} of {result.tokens:.6g} tokens"
    return ""


def _measured(forecast, held_out: RunResult | None, config: ConfigDict) -> dict[str, Any] | None:
    """Return the forecast beside the measurement; None without either."""
    if not forecast or not held_out or held_out.loss is None:
        return None
    predicted = forecast["predicted_loss"]
    return {
        "run_id": held_out.run_id,
        "flops": getattr(held_out, config.laws.flops),
        "n_params": getattr(held_out, config.laws.n_params),
        "tokens": held_out.tokens,
        "predicted_loss": predicted,
        "measured_loss": held_out.loss,
        "measured_loss_se": held_out.loss_se,
        "relative_error": held_out.loss / predicted["value"] - 1,
        "inside_interval": predicted["low"] <= held_out.loss <= predicted["high"],
    }
