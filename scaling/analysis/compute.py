"""From the table of runs to laws, and from laws to curves on disk: JSON, CSV, SVG and PNG per curve.

Every `<workdir>/curves/<name>.json` states the equation, the estimator, the parameters with intervals,
the runs used and those left out with the reason, diagnostics, the range of validity, predictions, and
what was measured. The CSV beside it holds every number in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling import results
from scaling.analysis import conditions
from scaling.config import field_traits
from scaling.laws import api as laws
from scaling.laws import to_text
from scaling.laws.envelope import Curve
from scaling.laws.frontier import Optimum, frontier
from scaling.laws.table import CannotFit, Table, make_table
from scaling.utils import files, notices
from scaling.utils.notices import Notice

FRONTIER_POINTS = 41
MANY_EPOCHS = 4.0  # up to which repeated data are worth nearly as much (Muennighoff et al. 2023)
SIZES = {  # what the axes call N, by config.laws.n_params
    "n_params": "size N, parameters without embeddings",
    "n_params_active": "size N, parameters that a token uses, without embeddings",
    "n_params_with_head": "size N, parameters with the head",
    "n_params_total": "size N, all parameters",
}


@dataclass(frozen=True)
class Fits:
    """All laws of one sweep. A law that could not be fitted is None and stands in `refused`."""

    table: Table
    long_runs: Table  # those of at least laws.min_steps steps, which L(N, D) is fitted to
    curves: list[Curve]
    isoflop: laws.IsoflopFit | None
    chinchilla: laws.Fit | None
    envelope: laws.EnvelopeFit | None
    frontier: list[Optimum]  # of the parametric law, over the plotted range of compute
    refused: dict[str, str]
    conditions: dict[str, Any] = field(default_factory=dict)  # how the runs were trained


def usable(rows: list[results.RunResult]) -> tuple[list[results.RunResult], list[Notice]]:
    """Return the finished runs of the sweep, and a notice with the reason for each other row."""
    excluded = [
        Notice(notices.UNFINISHED_RUN, f"{r.run_id}: {r.status}, {r.reason}")
        for r in rows
        if r.status != "done"
    ]
    excluded += [
        Notice(notices.OTHER_ROLE, f"{r.run_id}: {r.role} run")
        for r in rows
        if r.status == "done" and r.role != "sweep"
    ]
    return [r for r in rows if r.status == "done" and r.role == "sweep"], excluded


def sweep_table(rows: list[results.RunResult], config: ConfigDict, min_steps: int = 0) -> Table:
    """The finished runs of the sweep in the config's conventions; the others are listed as excluded.

    Runs of fewer than `min_steps` optimizer steps are left out too: a run that has hardly left its
    warm-up is not on the power law in D that L(N, D) supposes.
    """
    finished, excluded = usable(rows)
    used = []
    for r in finished:
        steps = r.tokens // r.batch_tokens
        if steps < min_steps:
            text = f"{r.run_id}: {steps} steps, fewer than config.laws.min_steps={min_steps}"
            excluded.append(Notice(notices.SHORT_RUN, text))
        else:
            used.append(r)
    schedules = sorted({r.schedule for r in used})
    warnings = []
    if len(schedules) > 1:
        text = (
            f"runs of mixed schedules ({', '.join(schedules)}): losses at equal N and D differ by "
            "schedule; fit them apart"
        )
        warnings.append(Notice(notices.MIXED_SCHEDULES, text))
    warnings += repeated(used)
    return make_table(
        warnings=warnings,
        n_params=[getattr(r, config.laws.n_params) for r in used],
        tokens=[r.tokens for r in used],
        flops=[getattr(r, config.laws.flops) for r in used],
        loss=[r.loss for r in used],
        budget=[r.budget for r in used],
        names=[r.run_id for r in used],
        excluded=excluded,
    )


def repeated(rows: list[results.RunResult]) -> list[Notice]:
    """A warning where the data were gone through so often that repeats cost loss."""
    most = max((r.epochs for r in rows), default=0.0)
    if most <= MANY_EPOCHS:
        return []
    text = (
        f"runs go through the training data up to {most:.3g} times: the law is that of repeated "
        "data"
    )
    return [Notice(notices.REPEATED_DATA, text)]


def two_prices(config: ConfigDict) -> str:
    """Why budgets and laws do not go together where they count FLOPs differently; "" where they do."""
    planned = f"flops_{config.sweep.flops}"
    if planned == config.laws.flops:
        return ""
    return (
        f"budgets are in config.sweep.flops={config.sweep.flops!r} and laws in config.laws.flops="
        f"{config.laws.flops!r}; set both alike, or compare them by `scaling conventions`"
    )


def fit(rows: list[results.RunResult], workdir: Path, config: ConfigDict) -> Fits:
    """Fit every law that the table allows.

    Raises CannotFit, with all reasons, where it allows none.
    """
    table = sweep_table(rows, config)
    if len(table) == 0:
        raise CannotFit(f"{workdir}: no finished run of a sweep; run `scaling sweep` first")
    long_runs = sweep_table(rows, config, config.laws.min_steps)
    options = {"bootstrap": config.laws.bootstrap, "confidence": config.laws.confidence}
    training = training_curves(rows, workdir, config)
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
    if two_prices(config):
        refused["isoflop"] = f"isoflop: {two_prices(config)}"
    isoflop = None if refused.get("isoflop") else attempt("isoflop", laws.fit_isoflop, table)
    budgets = table.budget[table.budget > 0]
    envelope = attempt(
        "envelope",
        laws.fit_envelope,
        training,
        smoothing=config.laws.smoothing,
        flops_range=_span(table.flops if two_prices(config) else budgets),
    )
    if chinchilla is None and isoflop is None and envelope is None:
        raise CannotFit("; ".join(refused.values()))
    return Fits(
        table=table,
        long_runs=long_runs,
        curves=training,
        isoflop=isoflop,
        chinchilla=chinchilla,
        envelope=envelope,
        frontier=optima(chinchilla, table, config),
        refused=refused,
        conditions=conditions.stated(usable(rows)[0], config),
    )


def _span(values: np.ndarray) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if len(values) else None


def optima(law: laws.Fit | None, table: Table, config: ConfigDict) -> list[Optimum]:
    """The compute-optimal runs of a law of size and data, from below the runs to beyond the held-out one."""
    if law is None:
        return []
    factor = max(config.laws.holdout_factor or 1.0, 1.0) * 1.5
    compute = np.geomspace(table.flops.min() / 1.5, table.flops.max() * factor, FRONTIER_POINTS)
    return frontier(law, table, compute)


def training_curves(rows, workdir: Path, config: ConfigDict) -> list[Curve]:
    """The logged training losses of every finished sweep run, in order of tokens."""
    found = []
    for r in rows:
        if r.status != "done" or r.role != "sweep":
            continue
        logged = files.read_lines(workdir / "runs" / r.run_id / "metrics.jsonl", key="step")
        if not logged:
            continue
        tokens = np.array([row["tokens"] for row in logged], float)
        per_token = getattr(r, config.laws.flops) / r.tokens
        loss = np.array([row["loss"] for row in logged])
        size = float(getattr(r, config.laws.n_params))
        found.append(Curve(r.run_id, size, tokens, tokens * per_token, loss))
    return found


def write(
    fits: Fits,
    workdir: Path,
    config: ConfigDict,
    forecast: dict[str, Any] | None = None,
    holdout: results.RunResult | None = None,
) -> list[Path]:
    """Write all curves; returns the pictures."""
    from scaling.report import sweep

    folder = workdir / "curves"
    common = {
        "study": config.name,
        "kind": config.sweep.kind,
        "recipe": fits.conditions,
        "n_params_convention": config.laws.n_params,
        "flops_convention": config.laws.flops,
        "confidence": config.laws.confidence,
        "table_sha256": fits.table.hash(),
        "runs_used": list(fits.table.names),
        **notices.as_json("runs_left_out", fits.table.excluded),
        "range_of_validity": to_text.ranges(fits.table, ("n_params", "tokens", "flops")),
    }
    measured = _measured(forecast, holdout, config)
    pictures = []
    caption = conditions.in_words(fits.conditions)
    for name, (law, picture) in sweep.contents(fits, forecast, holdout, labels(config)).items():
        files.write_json(
            folder / f"{name}.json", {"name": name, **common, **law, "held_out": measured}
        )
        pictures.append(picture.write(folder / name, caption))
    return pictures


def labels(config: ConfigDict) -> dict[str, str]:
    """What stands on the axes of size, data and loss, in the unit that D counts in the config's field."""
    units = field_traits.UNITS[config.data.field]
    nats = f"nats/{units[:-1]}"
    return {
        "n_params": SIZES[config.laws.n_params],
        "tokens": f"training data D, {units}",
        "unique_tokens": f"unique data U, {units}",
        "tokens_per_param": f"M = D / N, {units} per parameter",
        "loss": f"held-out loss, {nats}",
        "training_loss": f"training loss, {nats}",
        "batch": f"batch size, {units} per step",
        "E": f"$E$, {nats}",
        "L0": f"$L_0$, {nats}",
    }


def _measured(forecast, holdout, config: ConfigDict) -> dict[str, Any] | None:
    if not forecast or not holdout or holdout.loss is None:
        return None
    predicted = forecast["predicted_loss"]
    return {
        "run_id": holdout.run_id,
        "flops": getattr(holdout, config.laws.flops),
        "n_params": getattr(holdout, config.laws.n_params),
        "tokens": holdout.tokens,
        "predicted_loss": predicted,
        "measured_loss": holdout.loss,
        "measured_loss_se": holdout.loss_se,
        "relative_error": holdout.loss / predicted["value"] - 1,
        "inside_interval": predicted["low"] <= holdout.loss <= predicted["high"],
    }
