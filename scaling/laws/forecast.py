"""What does the next run reach? Several laws, weighed by how well each foretold the rows it had not
seen.

A member's expected squared error is the mean square of its errors in the backtest (`folds.py`) plus
the variance that the noise of the rows gives its prediction. The forecast is the geometric mean of
the members' predictions, weighted by a power of the inverse of that; its interval is that of the
mixture of the members' refits, widened by the error that the backtest measured.

Bates & Granger 1969 take the first power. Gaussian errors of unknown variance, n of them
independent, have the likelihood (mean square)^(-n/2): the folds of a curve look along one path and
count as one error, which keeps weights near equal; the folds of runs, four at most, count two each.
The members: runs of size and data are forecast by Chinchilla's law with free and with tied
exponents; curves of one quantity by four forms with a floor, by the two simplest of them fitted to
the late part, and by the level of the last rows, since that nothing changes any more is the
forecast which all others have to beat.
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

# Kaplan's law has no floor, so far beyond the table it must come out too low; ask for it by name.
OF_RUNS = (Member(FORMS["chinchilla"]), Member(FORMS["chinchilla_tied"]))
OF_CURVES = (
    *(Member(FORMS[name]) for name in ("power_offset", "shifted_power", "m4", "broken")),
    *(Member(FORMS[name], late=2.0) for name in ("power_offset", "shifted_power")),
    Member(FORMS["level"], late=8.0),
)
POWER_PER_FOLD, POWER_OF_CURVES = 1.0, 0.5  # of the inverse of the expected squared error
INPUTS = {1: ("x",), 2: ("n_params", "tokens")}
DISAGREE = 0.02  # relative difference of predictions from which the members are said to disagree


@dataclass(frozen=True)
class Combined:
    """A forecast, the members it is made of, and how each did in the backtest."""

    values: np.ndarray  # one per point
    intervals: tuple[Interval, ...]  # for the loss of a new run at each point
    fits: dict[str, Fit]
    weights: dict[str, float]
    errors: dict[str, list[float]]  # root mean square log error on the rows asked for, per fold
    backtest: tuple[float, ...]  # share of the rows that each of these folds held back
    notes: tuple[Notice, ...]


def forecast(
    table: Table,
    *inputs,
    forms: Sequence[str] = (),
    objective: Objective | None = None,
    bootstrap: int = 500,
    confidence: float = 0.9,
) -> Combined:
    """Losses of new runs by the backtest-weighted combination of several laws.

    `inputs` are n_params and tokens of the new runs, or one x for a table with a column x, in the
    order of the forms' inputs. `forms` replaces the default members. Without an objective runs are
    fitted by the Huber loss scaled to their residuals, curves by least squares: with the early rows
    of a late fit in them, residuals set no scale. Raises CannotFit where no form can be fitted or
    the forms take other inputs.
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
                "loss "
                f"of {', '.join(INPUTS[len(points)])}"
            )
    fits, warnings = _fitted(table, members, objective, bootstrap, confidence)
    scale_N = checks.scale(table, members[0].form)
    cuts = backtest.of_curve(scale_N) if curve else backtest.of_runs(scale_N)
    errors, counted, missing = backtest.backtest(
        table, [m for m in members if m.name in fits], cuts, objective
    )
    warnings += [*table.warnings, *missing]
    tested = {n: e for n, e in errors.items() if e}
    if tested:
        fits = {n: f for n, f in fits.items() if n in tested}
    else:
        text = "too few rows for a backtest: equal weights"
        warnings.append(Notice(notices.NO_BACKTEST, text))
    missed = {n: float(np.mean(np.square(e))) for n, e in tested.items()}
    power = POWER_OF_CURVES if curve else POWER_PER_FOLD * len(counted)
    weights = _weights(fits, missed, table, points, power)
    predicted = {n: f.predict(*points) for n, f in fits.items()}
    values = geometric_mean(predicted, weights)
    draws = _draws(fits, weights, missed, points, bootstrap)
    for name, alone in predicted.items():
        gap = float(np.max(np.abs(np.log(alone / values))))
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
        errors=tested,
        backtest=tuple(f.held_back for f in counted),
        notes=tuple(warnings),
    )


def _fitted(
    table, members, objective, bootstrap, confidence
) -> tuple[dict[str, Fit], list[Notice]]:
    fits, refusals = {}, []
    for member in members:
        try:
            fits[member.name] = fit(
                table,
                member.form,
                objective=objective,
                bootstrap=bootstrap,
                confidence=confidence,
                late=member.late,
            )
        except CannotFit as error:
            refusals.append(Notice(notices.UNFITTED_MEMBER, str(error)))
    if not fits:
        raise CannotFit("forecast: " + "; ".join(map(str, refusals)))
    return fits, refusals


def _weights(fits: dict[str, Fit], missed, table: Table, points, power: float) -> dict[str, float]:
    """Inverse expected squared errors to a power, summing to 1; equal without a backtest."""
    if not missed:
        return dict.fromkeys(fits, 1 / len(fits))
    return inverse_power(
        {n: missed[n] + float(np.mean(noise_variance(f, table, points))) for n, f in fits.items()},
        power,
    )


def _draws(fits: dict[str, Fit], weights, missed, points, bootstrap: int) -> np.ndarray:
    """`[draws, points]` losses of new runs: refits of every member in proportion to its weight."""
    top = max(weights.values())
    mixture = [
        f.prediction_draws(*points)[: round(bootstrap * weights[n] / top)] for n, f in fits.items()
    ]
    draws = np.concatenate(mixture)
    if not missed:
        return draws
    # members that all miss in the same way do so again: their error in the backtest widens the
    # interval
    error = sum(w * missed[n] for n, w in weights.items())
    scatter = min(f.spread for f in fits.values())
    beyond = np.sqrt(max(error - scatter**2, 0.0))
    noise = np.random.default_rng(1).standard_normal((len(draws), 1))
    return draws * np.exp(beyond * noise)
