"""Forecast the loss of new runs by combining several laws, weighted by their backtest errors.

A member's expected squared error is the mean square of its errors in the backtest (`backtest.py`)
plus the variance of its prediction from the noise of the rows. The forecast is the geometric mean
of the members' predictions, weighted by a power of the inverse of that error. Its interval is that
of the mixture of the members' refits, widened by the error in the backtest.

Bates & Granger 1969 take the first power. With n independent Gaussian errors of unknown variance,
the likelihood is (mean square)^(-n/2). The folds of a curve follow one path and count as one error,
which keeps the weights near equal. The folds of runs, four at most, count as two errors each.

Runs of size and data are forecast by Chinchilla's law with free and with tied exponents. Curves of
one quantity are forecast by four forms with a floor, by the two simplest of them fitted to the late
part, and by the level of the last rows. The level is the forecast of no change, which all others
have to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws import backtest, checks
from scaling.laws.backtest import Member
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.covariance import noise_variance
from scaling.laws.fit import Fit, fit
from scaling.laws.forecast_weights import geometric_mean, inverse_power
from scaling.laws.forms.registry import FORMS
from scaling.laws.forms.registry import form as form_named
from scaling.laws.objective import Objective
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

# Kaplan's law has no floor and comes out too low far beyond the table; select it by name.
OF_RUNS = (Member(FORMS["chinchilla"]), Member(FORMS["chinchilla_tied"]))
OF_CURVES = (
    *(Member(FORMS[name]) for name in ("power_offset", "shifted_power", "m4", "broken")),
    *(Member(FORMS[name], late=2.0) for name in ("power_offset", "shifted_power")),
    Member(FORMS["level"], late=8.0),
)
POWER_PER_FOLD, POWER_OF_CURVES = 1.0, 0.5  # powers of the inverse expected squared error
INPUTS = {1: ("x",), 2: ("n_params", "tokens")}
DISAGREE = 0.02  # relative difference of predictions above which members disagree


@dataclass(frozen=True)
class Combined:
    """A forecast, its member laws, and their errors in the backtest."""

    values: np.ndarray  # nats per token, one per point
    intervals: tuple[Interval, ...]  # for the loss of a new run at each point
    fits: dict[str, Fit]
    weights: dict[str, float]
    errors: dict[str, list[float]]  # root mean square log error on the scored rows, per fold
    backtest: tuple[float, ...]  # share of the rows held back by each fold
    notes: tuple[Notice, ...]


def forecast(
    table: Table,
    *inputs,
    forms: Sequence[str] = (),
    objective: Objective | None = None,
    bootstrap: int = 500,
    confidence: float = 0.9,
) -> Combined:
    """Forecast the losses of new runs by a combination of laws weighted by backtest errors.

    `inputs` are n_params and tokens of the new runs, or one x for a table with a column x, in the
    order of the forms' inputs. `forms` replaces the default members. The default objective is the
    Huber loss scaled to the residuals for runs, and least squares for curves: the residuals of a
    late fit include early rows and give no scale. Raises CannotFit if no form can be fitted or the
    forms take other inputs.
    """
    points = [np.atleast_1d(x) for x in np.broadcast_arrays(*inputs)]
    curve = len(points) == 1
    objective = objective or Objective("least_squares" if curve else "huber")
    members: Sequence[Member] = OF_CURVES if curve else OF_RUNS
    if forms:
        members = [Member(form_named(name)) for name in forms]
    for member in members:
        if member.form.inputs != INPUTS[len(points)] or member.form.target != "loss":
            raise CannotFit(
                f"forecast: {member.form.name} is a law of {', '.join(member.form.inputs)}, not a "
                f"loss of {', '.join(INPUTS[len(points)])}"
            )
    fits, warnings = _fit_members(table, members, objective, bootstrap, confidence)
    scale_N = checks.scale(table, members[0].form)
    cuts = backtest.of_curve(scale_N) if curve else backtest.of_runs(scale_N)
    errors, counted_folds, backtest_notices = backtest.backtest(
        table, [m for m in members if m.name in fits], cuts, objective
    )
    warnings += [*table.warnings, *backtest_notices]
    tested_errors = {n: e for n, e in errors.items() if e}
    if tested_errors:
        fits = {n: f for n, f in fits.items() if n in tested_errors}
    else:
        text = "too few rows for a backtest: equal weights"
        warnings.append(Notice(notices.NO_BACKTEST, text))
    mean_squares = {n: float(np.mean(np.square(e))) for n, e in tested_errors.items()}
    power = POWER_OF_CURVES if curve else POWER_PER_FOLD * len(counted_folds)
    weights = _weights(fits, mean_squares, table, points, power)
    predictions = {n: f.predict(*points) for n, f in fits.items()}
    values = geometric_mean(predictions, weights)
    draws = _draws(fits, weights, mean_squares, points, bootstrap)
    for name, member_values in predictions.items():
        gap = float(np.max(np.abs(np.log(member_values / values))))
        if gap > DISAGREE:
            text = (
                f"{name} differs by up to {gap:.1%} from the forecast (weight {weights[name]:.2f})"
            )
            warnings.append(Notice(notices.MEMBERS_DISAGREE, text))
    return Combined(
        values=values,
        intervals=tuple(
            interval(float(v), d, confidence, min(f.freedom for f in fits.values()))
            for v, d in zip(values, draws.T, strict=True)
        ),
        fits=fits,
        weights=weights,
        errors=tested_errors,
        backtest=tuple(f.held_back for f in counted_folds),
        notes=tuple(warnings),
    )


def _fit_members(
    table, members, objective, bootstrap, confidence
) -> tuple[dict[str, Fit], list[Notice]]:
    laws, refusals = {}, []
    for member in members:
        try:
            laws[member.name] = fit(
                table,
                member.form,
                objective=objective,
                bootstrap=bootstrap,
                confidence=confidence,
                late=member.late,
            )
        except CannotFit as error:
            refusals.append(Notice(notices.UNFITTED_MEMBER, str(error)))
    if not laws:
        raise CannotFit("forecast: " + "; ".join(map(str, refusals)))
    return laws, refusals


def _weights(
    fits: dict[str, Fit], mean_squares, table: Table, points, power: float
) -> dict[str, float]:
    """Return inverse expected squared errors to a power, summing to 1; equal without a backtest."""
    if not mean_squares:
        return dict.fromkeys(fits, 1 / len(fits))
    return inverse_power(
        {
            n: mean_squares[n] + float(np.mean(noise_variance(f, table, points)))
            for n, f in fits.items()
        },
        power,
    )


def _draws(fits: dict[str, Fit], weights, mean_squares, points, bootstrap: int) -> np.ndarray:
    """Return `[draws, points]` losses of new runs, from refits of members by their weights."""
    top = max(weights.values())
    mixture = [
        f.prediction_draws(*points)[: round(bootstrap * weights[n] / top)] for n, f in fits.items()
    ]
    draws = np.concatenate(mixture)
    if not mean_squares:
        return draws
    # members may share an error, so their error in the backtest widens the interval
    error = sum(w * mean_squares[n] for n, w in weights.items())
    scatter = min(f.spread for f in fits.values())
    extra_scatter = np.sqrt(max(error - scatter**2, 0.0))
    noise = np.random.default_rng(1).standard_normal((len(draws), 1))
    return draws * np.exp(extra_scatter * noise)
