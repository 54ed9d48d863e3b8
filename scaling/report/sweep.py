"""Build the content of a sweep's curves: for each name, the law as JSON and the picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.laws import to_text
from scaling.laws.fit import Fit
from scaling.laws.power import PowerFit
from scaling.laws.table import Table
from scaling.report import approaches, bootstrap, isoflop, measured, residuals, surface, training
from scaling.report.picture import Picture
from scaling.utils import notices


def contents(
    fits, forecast, holdout, labels: Mapping[str, str]
) -> dict[str, tuple[dict[str, Any], Picture]]:
    """Return name -> (law as JSON, picture) for all laws `fits` of a sweep.

    `forecast`: the sealed forecast, or None. `holdout`: the run that it predicts, or None.
    `labels`: names of the axes.
    """
    entries: dict[str, tuple[dict[str, Any], Picture]] = {}
    entries["loss_curves"] = (
        {
            "estimator": "envelope of smoothed training curves (Hoffmann et al. 2022, approach 1)",
            "equation": "N* = k C^a, D* = k C^b, L = k C^c",
            "parameters": _power_laws(fits.envelope),
            "diagnostics": {
                **notices.as_json("warnings", fits.envelope.warnings if fits.envelope else ()),
                "refused": fits.refused.get("envelope"),
            },
        },
        training.picture(fits.curves, fits.envelope, labels),
    )
    if fits.isoflop or (fits.table.budget > 0).any():
        picture = isoflop.profiles(fits.isoflop, fits.table, labels)
        entries["isoflop"] = (_isoflop(fits), picture)
    entries.update(parametric(fits, labels))
    entries.update(optima(fits, forecast, holdout, labels))
    return entries


def parametric(fits, labels: Mapping[str, str]) -> dict[str, tuple[dict[str, Any], Picture]]:
    """Return the pictures of L(N, D), approach 3, or {} if it was not fitted.

    They are its residuals, its contours, prediction against measurement, and its refits.
    """
    if not fits.chinchilla:
        return {}
    law, runs = fits.chinchilla, fits.long_runs
    pictures = {
        "chinchilla": residuals.picture(law, runs, labels),
        "chinchilla_contours": surface.picture(law, runs, fits.frontier, labels),
        "chinchilla_predicted": measured.picture(law, runs, labels),
    }
    if len(law.draws_BP):
        pictures["chinchilla_bootstrap"] = bootstrap.picture(law, labels)
    content = _parametric(law, runs)
    return {name: (content, picture) for name, picture in pictures.items()}


def optima(
    fits, forecast, holdout, labels: Mapping[str, str]
) -> dict[str, tuple[dict[str, Any], Picture]]:
    """Return loss, N* and D* of the compute-optimal run by every approach, or {} without any."""
    entries: dict[str, tuple[dict[str, Any], Picture]] = {}
    for name, quantity in (("frontier", "loss"), ("n_opt", "n_params"), ("tokens_opt", "tokens")):
        if not fits.isoflop and not fits.frontier:
            continue
        entries[name] = (
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
            approaches.picture(fits, name, quantity, forecast, holdout, labels),
        )
    return entries


def _parametric(law: Fit, runs: Table) -> dict[str, Any]:
    return {
        "estimator": f"{law.described} (Hoffmann et al. 2022, approach 3)",
        "equation": law.equation,
        "parameters": {k: i.as_dict() for k, i in law.intervals.items()},
        "runs_used": list(runs.names),
        **notices.as_json("runs_left_out", runs.excluded),
        "range_of_validity": to_text.ranges(runs, ("n_params", "tokens", "flops")),
        "verdict": law.verdict,
        "diagnostics": {
            "huber_delta": law.delta,
            "objective": law.objective,
            "starts_that_reach_it": law.reached,
            "residual_rms": float(np.sqrt(np.mean(law.residuals**2))),
            **notices.as_json("warnings", law.warnings),
        },
    }


def _isoflop(fits) -> dict[str, Any]:
    """Return approach 2 as JSON: its profiles, or the reason of a refusal, and optima at edges."""
    if fits.isoflop:
        content: dict[str, Any] = {
            "estimator": "parabola in log N per budget (Hoffmann et al. 2022, approach 2)",
            "parameters": [_profile(p) for p in fits.isoflop.profiles],
            "diagnostics": notices.as_json("warnings", fits.isoflop.warnings),
        }
    else:
        content = {
            "estimator": "none: the law was refused",
            "parameters": [],
            "verdict": "refused",
            "diagnostics": {
                "refused": fits.refused["isoflop"],
                **notices.as_json("warnings", ()),
            },
        }
    edges = {"edges": fits.edges} if fits.edges else {}
    return {"equation": "log L = c0 + c1 x + c2 x^2, x = log N - log N0", **content, **edges}


def _power(fit: PowerFit | None) -> dict[str, Any] | None:
    return to_text.power(fit) if fit else None


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
        "problem": str(p.problem or ""),
    }
