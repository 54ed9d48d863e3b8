"""Convert fitted laws to plain dicts for JSON and to lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from scaling.laws import diagnose, extrapolation
from scaling.laws.fit import Fit
from scaling.laws.forecast import Combined
from scaling.laws.gain import Gain
from scaling.laws.isoflop import IsoflopFit
from scaling.laws.lr_batch_law import HyperFit, cost_in_words
from scaling.laws.lr_batch_optima import COST
from scaling.laws.power import PowerFit
from scaling.laws.table import Table
from scaling.laws.varpro import VarproFit
from scaling.utils import notices, precision
from scaling.utils.notices import Notice

SYMBOLS = {"n_params": "N", "tokens": "D"}


def ranges(table: Table, columns) -> dict[str, list[float]]:
    """Return the smallest and largest value of each column, the range of a law's validity."""
    return {c: [float(table[c].min()), float(table[c].max())] for c in columns}


def residual_rms(fit: Fit | VarproFit) -> float:
    """Return the root mean square of the residuals of log loss."""
    return float(np.sqrt(np.mean(fit.residuals**2)))


def _common(table: Table) -> dict[str, Any]:
    columns = [c for c in table.columns if c not in ("budget", "seed", "blocks")]
    return {
        "n_rows": len(table),
        **notices.as_json("reading", table.reading),
        **notices.as_json("excluded", table.excluded),
        "table_sha256": table.hash(),
        "range_of_validity": ranges(table, columns),
    }


def fitted(fit: Fit, table: Table) -> dict[str, Any]:
    """Convert a parametric law to JSON."""
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
        "residual_rms": residual_rms(fit),
        "spread": fit.spread,
        "resamples": len(fit.draws_BP),
        "verdict": fit.verdict,
        **notices.as_json("warnings", fit.warnings),
        "confidence": fit.confidence,
        **_common(table),
    }


def prediction(
    table: Table, at: Mapping[str, float], value, target: str = "loss"
) -> dict[str, Any]:
    """Convert the predicted `target` at inputs `at`, an `Interval`, to JSON.

    `beyond` holds how many times beyond the rows the point lies.
    """
    return {**at, "beyond": extrapolation.beyond(table, at), target: value.as_dict()}


def with_predictions(
    content: dict[str, Any], warnings: Sequence[Notice], predictions, table: Table
) -> dict[str, Any]:
    """Return a law's JSON with predictions. Those far beyond the rows lower its verdict.

    `warnings` are those of the law.
    """
    inputs = [{n: v for n, v in row.items() if not isinstance(v, dict)} for row in predictions]
    found = [notice for at in inputs for notice in extrapolation.notice(table, at)]
    return content | {
        "predictions": predictions,
        "verdict": diagnose.lower(content["verdict"], found),
        **notices.as_json("warnings", [*warnings, *found]),
    }


def combined(forecast: Combined, table: Table, points, inputs: Sequence[str]) -> dict[str, Any]:
    """Convert a backtest-weighted forecast to JSON, with every member's law."""
    at = [dict(zip(inputs, point, strict=True)) for point in points]
    found = [notice for point in at for notice in extrapolation.notice(table, point)]
    predictions = [
        prediction(table, point, i) for point, i in zip(at, forecast.intervals, strict=True)
    ]
    return {
        "form": "combined",
        "equation": "L = product of the forms' predictions to the power of their weights",
        "estimator": next(iter(forecast.fits.values())).described,
        "params": {},
        "weights": forecast.weights,
        "backtest_rms_log_errors": forecast.errors,
        "backtest_held_back": list(forecast.backtest),
        "predictions": predictions,
        "members": {name: fitted(law, table) for name, law in forecast.fits.items()},
        "verdict": "; ".join(
            f"{n}: {diagnose.lower(law.verdict, found)}" for n, law in forecast.fits.items()
        ),
        **notices.as_json("warnings", [*forecast.notes, *found]),
        **_common(table),
    }


def power(fit: PowerFit) -> dict[str, Any]:
    """Convert a power law to JSON."""
    return {
        "equation": fit.equation,
        "coefficient": fit.coefficient.as_dict(),
        "exponent": fit.exponent.as_dict(),
        "x_range": list(fit.x_range),
    }


def isoflop(fit: IsoflopFit, table: Table, more: Iterable[Notice] = ()) -> dict[str, Any]:
    """Convert IsoFLOP profiles and their power laws to JSON; `more` notices enter the verdict."""
    warnings = [*table.warnings, *fit.warnings, *more]
    names = {"N*": fit.n_opt, "D*": fit.tokens_opt, "L*": fit.frontier}
    return {
        "form": "isoflop",
        "equation": "log L = c0 + c1 x + c2 x^2, x = log N - log N0; y* = k C^a",
        "estimator": f"{fit.profiles[0].method} in log N per budget, least squares on logs of the "
        "minima",
        "params": {name: law.exponent.as_dict() for name, law in names.items()},
        "laws": {name: power(law) for name, law in names.items()},
        "minima": [
            {
                "budget": p.budget,
                "n_opt": p.n_opt.as_dict(),
                "tokens_opt": p.tokens_opt.as_dict(),
                "loss_opt": p.loss_opt.as_dict(),
                "problem": str(p.problem or ""),
            }
            for p in fit.profiles
        ],
        "verdict": diagnose.verdict(warnings),
        **notices.as_json("warnings", warnings),
        **_common(table),
    }


def varpro(fit: VarproFit, table: Table) -> dict[str, Any]:
    """Convert Chinchilla's law by variable projection to JSON."""
    return {
        "form": "varpro",
        "equation": fit.equation,
        "estimator": "variable projection: least squares of relative residuals, exponents searched",
        "params": {name: i.as_dict() for name, i in fit.intervals.items()},
        "residual_rms": residual_rms(fit),
        "verdict": diagnose.verdict(fit.warnings),
        **notices.as_json("warnings", fit.warnings),
        **_common(table),
    }


def tuned(fit: HyperFit, table: Table) -> dict[str, Any]:
    """Convert the law of a tuned hyperparameter to JSON, with every group's optimum."""
    return {
        "form": f"{fit.form.target}_optimum",
        "equation": fit.equation,
        "source": fit.form.source,
        "domain": fit.form.domain,
        "estimator": "a quadratic in log hyperparameters near each group's lowest log loss, "
        "weighted least squares on logs of the optima",
        "params": {name: i.as_dict() for name, i in fit.law.items()},
        "groups": [
            {
                **g.inputs,
                "rows": g.n_runs,
                fit.form.target: g.optimum.as_dict(),
                "loss_opt": g.loss,
                f"range_within_{COST:.0%}".replace("%", "_percent"): list(g.tolerated),
                "problem": str(g.problem or ""),
            }
            for g in fit.groups
        ],
        "scatter": fit.scatter,
        "factor_that_costs_1_percent": fit.wrong_by,
        "notes": [cost_in_words(fit)],
        "verdict": fit.verdict,
        **notices.as_json("warnings", fit.warnings),
        "confidence": fit.confidence,
        **_common(table),
    }


def gain(
    gain_fit: Gain, baseline: Table, new: Table, more: Sequence[Notice] = ()
) -> dict[str, Any]:
    """Convert a compute-equivalent gain to JSON: its slope, both families' laws, and the curve.

    `more` notices are appended to those of the gain, and may lower its verdict.
    """
    families = {"baseline": baseline, "new": new}
    excluded = [notice.about(name) for name, t in families.items() for notice in t.excluded]
    return {
        "form": "gain",
        "equation": gain_fit.equation,
        "source": "Ho et al. 2024 (effective compute); Davidson et al. 2023 (compute-equivalent "
        "gain)",
        "estimator": "laws of the compute-optimal loss of two families, refits paired at random",
        "params": {
            "slope": gain_fit.slope.as_dict(),
            **{f"{n}_{f}": i.as_dict() for f, law in gain_fit.laws.items() for n, i in law.items()},
        },
        "gains": [
            {"flops": c, "new_loss": loss, "gain": g.as_dict(), "never_in_share": share}
            for c, loss, g, share in zip(
                gain_fit.flops.tolist(),
                gain_fit.new_loss.tolist(),
                gain_fit.gain,
                gain_fit.never.tolist(),
                strict=True,
            )
        ],
        "notes": [gain_fit.scale],
        "verdict": diagnose.lower(gain_fit.verdict, more),
        **notices.as_json("warnings", [*gain_fit.warnings, *more]),
        "confidence": gain_fit.confidence,
        "n_rows": len(baseline) + len(new),
        **notices.as_json("excluded", excluded),
        "families": {f: _common(t) for f, t in families.items()},
    }


def counts(content: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Return how many rows, IsoFLOP budgets and groups of runs a law uses and leaves out."""
    made = {"rows": {"used": content["n_rows"], "left_out": len(content["excluded"])}}
    for key, name in (("minima", "budgets"), ("groups", "groups")):
        if key in content:
            left_out = sum(bool(entry["problem"]) for entry in content[key])
            made[name] = {"used": len(content[key]) - left_out, "left_out": left_out}
    return made


def lines(content: dict[str, Any]) -> list[str]:
    """Convert a law's dict to lines of text: equation, parameters with intervals, verdict."""
    text = [f"{content['equation']}   ({content['n_rows']} rows)"]
    used = [f"{n['used']} {name} ({n['left_out']} left out)" for name, n in counts(content).items()]
    text.append(f"  used: {', '.join(used)}")
    for name, p in content["params"].items():
        text.append(f"  {name:6} {_interval_text(p)}{_se_text(p['se'])}")
    for name, weight in content.get("weights", {}).items():
        errors = ", ".join(f"{e:.2%}" for e in content["backtest_rms_log_errors"][name]) or "none"
        text.append(f"  {name:16} weight {weight:.2f}  backtest errors {errors}")
    for p in content.get("predictions", []):
        target = list(p)[-1]
        inputs = [name for name, value in p.items() if not isinstance(value, dict)]
        label = " ".join(f"{SYMBOLS.get(n, n)} {p[n]:.4g}" for n in inputs) + f": {target}"
        suffix = " for a new run" if target == "loss" else ""
        text.append(f"  {label} {_interval_text(p[target])}{suffix}")
    for g in content.get("gains", []):
        text.append(
            f"  C {g['flops']:.4g}: loss {g['new_loss']:.4g}, gain {_interval_text(g['gain'])}"
        )
    text.extend(f"  {line}" for line in content.get("notes", []))
    text.append(f"verdict: {content['verdict']}")
    text.extend(f"warning: {w}" for w in content["warnings"])
    return text


def _interval_text(i: dict[str, float]) -> str:
    return precision.with_interval(i["value"], i["low"], i["high"])


def _se_text(se: float) -> str:
    return f"  se {se:.2g}" if np.isfinite(se) else ""
