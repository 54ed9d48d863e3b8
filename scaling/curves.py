"""From the table of runs to laws, and from laws to curves on disk: JSON, CSV, SVG and PNG per curve.

Every `<workdir>/curves/<name>.json` states the equation, the estimator, the parameters with intervals,
the runs used and those left out with the reason, diagnostics, the range of validity, predictions, and
what was measured. The CSV beside it holds every number in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from scaling import files, laws, results
from scaling.laws import export
from scaling.laws.bootstrap import Interval
from scaling.laws.envelope import Curve
from scaling.laws.frontier import Optimum, frontier
from scaling.laws.table import CannotFit, Table, make_table

FRONTIER_POINTS = 41


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


def sweep_table(rows: list[results.RunResult], config: ConfigDict, min_steps: int = 0) -> Table:
    """The finished runs of the sweep in the config's conventions; the others are listed as excluded.

    Runs of fewer than `min_steps` optimizer steps are left out too: a run that has hardly left its
    warm-up is not on the power law in D that L(N, D) supposes.
    """
    excluded = [f"{r.run_id}: {r.status}, {r.reason}" for r in rows if r.status != "done"]
    excluded += [
        f"{r.run_id}: {r.role} run" for r in rows if r.status == "done" and r.role != "sweep"
    ]
    used = []
    for r in rows:
        steps = r.tokens // r.batch_tokens
        if r.status == "done" and r.role == "sweep" and steps < min_steps:
            excluded.append(
                f"{r.run_id}: {steps} steps, fewer than config.laws.min_steps={min_steps}"
            )
        elif r.status == "done" and r.role == "sweep":
            used.append(r)
    return make_table(
        n_params=[getattr(r, config.laws.n_params) for r in used],
        tokens=[r.tokens for r in used],
        flops=[getattr(r, config.laws.flops) for r in used],
        loss=[r.loss for r in used],
        budget=[r.budget for r in used],
        names=[r.run_id for r in used],
        excluded=excluded,
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
    isoflop = attempt("isoflop", laws.fit_isoflop, table)
    budgets = table.budget[table.budget > 0]
    envelope = attempt(
        "envelope",
        laws.fit_envelope,
        training,
        smoothing=config.laws.smoothing,
        flops_range=(float(budgets.min()), float(budgets.max())) if len(budgets) else None,
    )
    if chinchilla is None and isoflop is None and envelope is None:
        raise CannotFit("; ".join(refused.values()))
    factor = max(config.laws.holdout_factor, 1.0) * 1.5
    compute = np.geomspace(table.flops.min() / 1.5, table.flops.max() * factor, FRONTIER_POINTS)
    return Fits(
        table=table,
        long_runs=long_runs,
        curves=training,
        isoflop=isoflop,
        chinchilla=chinchilla,
        envelope=envelope,
        frontier=frontier(chinchilla, table, compute) if chinchilla else [],
        refused=refused,
    )


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
    from scaling.report import figures

    folder = workdir / "curves"
    common = {
        "study": config.name,
        "n_params_convention": config.laws.n_params,
        "flops_convention": config.laws.flops,
        "confidence": config.laws.confidence,
        "table_sha256": fits.table.hash(),
        "runs_used": list(fits.table.names),
        "runs_left_out": list(fits.table.excluded),
        "range_of_validity": _range(fits.table),
    }
    measured = _measured(forecast, holdout)
    pictures = []
    for name, (law, columns, draw) in _contents(fits, forecast, holdout, figures).items():
        files.write_json(
            folder / f"{name}.json", {"name": name, **common, **law, "held_out": measured}
        )
        files.write_bytes(folder / f"{name}.csv", files.csv_bytes(columns))
        svg, png = figures.render(draw)
        files.write_bytes(folder / f"{name}.svg", svg)
        files.write_bytes(folder / f"{name}.png", png)
        pictures.append(folder / f"{name}.png")
    return pictures


def _contents(fits: Fits, forecast, holdout, figures) -> dict[str, tuple]:
    """name -> (law as JSON, columns of the CSV, function that draws it)."""
    found: dict[str, tuple] = {}
    found["loss_curves"] = (
        {
            "estimator": "envelope of smoothed training curves (Hoffmann et al. 2022, approach 1)",
            "equation": "N* = k C^a, D* = k C^b, L = k C^c",
            "parameters": _power_laws(fits.envelope),
            "diagnostics": {
                "warnings": list(fits.envelope.warnings) if fits.envelope else [],
                "refused": fits.refused.get("envelope"),
            },
        },
        _curve_rows(fits),
        lambda: figures.loss_curves(fits),
    )
    if fits.isoflop:
        found["isoflop"] = (
            {
                "estimator": "parabola in log N per budget (Hoffmann et al. 2022, approach 2)",
                "equation": "log L = c0 + c1 x + c2 x^2, x = log N - log N0",
                "parameters": [_profile(p) for p in fits.isoflop.profiles],
                "diagnostics": {"warnings": list(fits.isoflop.warnings)},
            },
            _isoflop_rows(fits),
            lambda: figures.isoflop(fits),
        )
    if fits.chinchilla:
        c = fits.chinchilla
        found["chinchilla"] = (
            {
                "estimator": f"{c.described} (Hoffmann et al. 2022, approach 3)",
                "equation": c.equation,
                "parameters": {k: i.as_dict() for k, i in c.intervals.items()},
                "runs_used": list(fits.long_runs.names),
                "runs_left_out": list(fits.long_runs.excluded),
                "range_of_validity": _range(fits.long_runs),
                "verdict": c.verdict,
                "diagnostics": {
                    "huber_delta": c.delta,
                    "objective": c.objective,
                    "starts_that_reach_it": c.reached,
                    "residual_rms": float(np.sqrt(np.mean(c.residuals**2))),
                    "warnings": list(c.warnings),
                },
            },
            {
                "run_id": fits.long_runs.names,
                "n_params": fits.long_runs.n_params,
                "tokens": fits.long_runs.tokens,
                "flops": fits.long_runs.flops,
                "loss": fits.long_runs.loss,
                "predicted": c.predict(fits.long_runs.n_params, fits.long_runs.tokens),
                "log_residual": c.residuals,
            },
            lambda: figures.residuals(fits),
        )
    for name, quantity in (("frontier", "loss"), ("n_opt", "n_params"), ("tokens_opt", "tokens")):
        if not fits.isoflop and not fits.frontier:
            continue
        found[name] = (
            {
                "estimator": "approaches 1, 2 and 3 of Hoffmann et al. 2022 side by side",
                "equation": "y = k C^a through the minima (1, 2); minimum of L(N, C / c(N)) (3)",
                "parameters": {
                    "envelope": _power(getattr(fits.envelope, name, None)),
                    "isoflop": _power(getattr(fits.isoflop, name, None)),
                    "chinchilla": {k: i.as_dict() for k, i in fits.chinchilla.intervals.items()}
                    if fits.chinchilla
                    else None,
                },
                "predictions": [
                    {"flops": o.flops, quantity: getattr(o, quantity).as_dict()}
                    for o in fits.frontier
                ],
                "diagnostics": {"refused": fits.refused},
            },
            _frontier_rows(fits, name, quantity, forecast, holdout),
            lambda quantity=quantity, name=name: figures.against_compute(
                fits, name, quantity, forecast, holdout
            ),
        )
    return found


def _range(table: Table) -> dict[str, list[float]]:
    return {
        c: [float(getattr(table, c).min()), float(getattr(table, c).max())]
        for c in ("n_params", "tokens", "flops")
    }


def _power(fit: laws.PowerFit | None) -> dict[str, Any] | None:
    return export.power(fit) if fit else None


def _power_laws(fit) -> dict[str, Any] | None:
    names = ("n_opt", "tokens_opt", "frontier")
    return {n: _power(getattr(fit, n)) for n in names} if fit else None


def _profile(p) -> dict[str, Any]:
    return {
        "budget": p.budget,
        "c2_c1_c0": p.coefficients.tolist(),
        "log_n0": p.log_n0,
        "n_opt": p.n_opt.as_dict(),
        "tokens_opt": p.tokens_opt.as_dict(),
        "loss_opt": p.loss_opt.as_dict(),
        "problem": p.problem,
    }


def _measured(forecast, holdout) -> dict[str, Any] | None:
    if not forecast or not holdout or holdout.loss is None:
        return None
    predicted = forecast["predicted_loss"]
    return {
        "run_id": holdout.run_id,
        "flops": holdout.flops_exact,
        "n_params": holdout.n_params,
        "tokens": holdout.tokens,
        "predicted_loss": predicted,
        "measured_loss": holdout.loss,
        "measured_loss_se": holdout.loss_se,
        "relative_error": holdout.loss / predicted["value"] - 1,
        "inside_interval": predicted["low"] <= holdout.loss <= predicted["high"],
    }


def _curve_rows(fits: Fits) -> dict[str, list]:
    rows: dict[str, list] = {k: [] for k in ("run_id", "n_params", "tokens", "flops", "loss")}
    for c in fits.curves:
        for tokens, flops, loss in zip(c.tokens, c.flops, c.loss, strict=True):
            for key, value in zip(rows, (c.name, c.n_params, tokens, flops, loss), strict=True):
                rows[key].append(value)
    if fits.envelope:
        e = fits.envelope
        for i in range(len(e.flops)):
            values = ("envelope", e.n_params[i], e.tokens[i], e.flops[i], e.loss[i])
            for key, value in zip(rows, values, strict=True):
                rows[key].append(value)
    return rows


def _isoflop_rows(fits: Fits) -> dict[str, Any]:
    t = fits.table
    curves = {p.budget: p for p in fits.isoflop.profiles} if fits.isoflop else {}
    fitted = [
        float(curves[b].curve(n)) if b in curves else float("nan")
        for b, n in zip(t.budget, t.n_params, strict=True)
    ]
    return {
        "run_id": t.names,
        "budget": t.budget,
        "n_params": t.n_params,
        "tokens": t.tokens,
        "flops": t.flops,
        "loss": t.loss,
        "parabola": fitted,
    }


def _frontier_rows(fits: Fits, law: str, quantity: str, forecast, holdout) -> dict[str, list]:
    rows: dict[str, list] = {k: [] for k in ("series", "flops", quantity, "low", "high")}

    def add(series: str, flops: float, value: Interval | float) -> None:
        value = value if isinstance(value, Interval) else Interval(value, *(float("nan"),) * 3)
        for key, cell in zip(
            rows, (series, flops, value.value, value.low, value.high), strict=True
        ):
            rows[key].append(cell)

    for o in fits.frontier:
        add("chinchilla", o.flops, getattr(o, quantity))
    if fits.isoflop:
        name = {"loss": "loss_opt", "n_params": "n_opt", "tokens": "tokens_opt"}[quantity]
        for p in fits.isoflop.profiles:
            add("isoflop minimum" if not p.problem else "bad minimum", p.budget, getattr(p, name))
        for o in fits.frontier:
            add("isoflop law", o.flops, float(getattr(fits.isoflop, law).predict(o.flops)))
    if fits.envelope:
        column = getattr(fits.envelope, quantity)
        for flops, value in zip(fits.envelope.flops, column, strict=True):
            add("envelope", flops, float(value))
    if quantity == "loss" and forecast:
        p = forecast["predicted_loss"]
        add("forecast", forecast["flops"], Interval(p["value"], p["se"], p["low"], p["high"]))
    if quantity == "loss" and holdout and holdout.loss is not None:
        add("held out", holdout.flops_exact, float(holdout.loss))
    return rows
