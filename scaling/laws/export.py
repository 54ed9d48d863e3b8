"""Fitted laws as plain dicts for JSON, and as lines of text, for tables from elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from scaling.laws.fit import Fit
from scaling.laws.forecast import Combined
from scaling.laws.isoflop import IsoflopFit
from scaling.laws.power import PowerFit
from scaling.laws.table import Table


def ranges(table: Table, columns) -> dict[str, list[float]]:
    """Smallest and largest value of each column: where a law may be used without extrapolating."""
    return {c: [float(table[c].min()), float(table[c].max())] for c in columns}


def _common(table: Table) -> dict[str, Any]:
    columns = [c for c in table.columns if c not in ("budget", "seed")]
    return {
        "n_rows": len(table),
        "excluded": list(table.excluded),
        "table_sha256": table.hash(),
        "range_of_validity": ranges(table, columns),
    }


def fitted(fit: Fit, table: Table) -> dict[str, Any]:
    """A parametric law as JSON."""
    return {
        "form": fit.form.name,
        "equation": fit.equation,
        "source": fit.form.source,
        "domain": fit.form.domain,
        "estimator": fit.described,
        "params": {name: i.as_dict() for name, i in fit.intervals.items()},
        "hessian_se": fit.hessian_se,
        "objective": fit.objective,
        "huber_delta": fit.delta,
        "starts": len(fit.converged),
        "starts_that_reach_it": fit.reached,
        "starts_converged": float(np.mean(fit.converged)),
        "other_minima": list(fit.other_minima),
        "residual_rms": float(np.sqrt(np.mean(fit.residuals**2))),
        "spread": fit.spread,
        "resamples": len(fit.draws_BP),
        "verdict": fit.verdict,
        "warnings": list(fit.warnings),
        "confidence": fit.confidence,
        **_common(table),
    }


def prediction(n_params: float, tokens: float, loss) -> dict[str, Any]:
    """Loss of one new run, with the interval that holds it."""
    return {"n_params": n_params, "tokens": tokens, "loss": loss.as_dict()}


def combined(found: Combined, table: Table, points) -> dict[str, Any]:
    """A backtest-weighted forecast as JSON, with every member's law."""
    return {
        "form": "combined",
        "equation": "L = product of the forms' predictions to the power of their weights",
        "estimator": next(iter(found.fits.values())).described,
        "params": {},
        "weights": found.weights,
        "backtest_rms_log_errors": found.errors,
        "backtest_held_back": list(found.folds),
        "predictions": [
            prediction(n, d, i) for (n, d), i in zip(points, found.intervals, strict=True)
        ],
        "members": {name: fitted(law, table) for name, law in found.fits.items()},
        "verdict": "; ".join(f"{n}: {law.verdict}" for n, law in found.fits.items()),
        "warnings": list(found.notes),
        **_common(table),
    }


def power(fit: PowerFit) -> dict[str, Any]:
    return {
        "equation": fit.equation,
        "coefficient": fit.coefficient.as_dict(),
        "exponent": fit.exponent.as_dict(),
        "x_range": list(fit.x_range),
    }


def isoflop(fit: IsoflopFit, table: Table) -> dict[str, Any]:
    names = {"N*": fit.n_opt, "D*": fit.tokens_opt, "L*": fit.frontier}
    return {
        "form": "isoflop",
        "equation": "log L = c0 + c1 x + c2 x^2, x = log N - log N0; y* = k C^a",
        "estimator": f"{fit.profiles[0].method} in log N per budget, least squares on logs of the minima",
        "params": {name: law.exponent.as_dict() for name, law in names.items()},
        "laws": {name: power(law) for name, law in names.items()},
        "minima": [
            {
                "budget": p.budget,
                "n_opt": p.n_opt.as_dict(),
                "tokens_opt": p.tokens_opt.as_dict(),
                "loss_opt": p.loss_opt.as_dict(),
                "problem": p.problem,
            }
            for p in fit.profiles
        ],
        "verdict": "good" if not fit.warnings else "see warnings",
        "warnings": [*table.warnings, *fit.warnings],
        **_common(table),
    }


def lines(content: dict[str, Any]) -> list[str]:
    """A law's dict as text: equation, parameters with intervals, verdict."""
    out = [f"{content['equation']}   ({content['n_rows']} rows)"]
    for name, p in content["params"].items():
        out.append(
            f"  {name:6} {p['value']:.6g}  se {p['se']:.2g}  [{p['low']:.6g}, {p['high']:.6g}]"
        )
    for name, weight in content.get("weights", {}).items():
        errors = ", ".join(f"{e:.2%}" for e in content["backtest_rms_log_errors"][name])
        out.append(f"  {name:16} weight {weight:.2f}  backtest errors {errors}")
    for p in content.get("predictions", []):
        loss = p["loss"]
        out.append(
            f"  N {p['n_params']:.4g} D {p['tokens']:.4g}: loss {loss['value']:.5g}  "
            f"[{loss['low']:.5g}, {loss['high']:.5g}] for a new run"
        )
    out.append(f"verdict: {content['verdict']}")
    out.extend(f"warning: {w}" for w in content["warnings"])
    return out
