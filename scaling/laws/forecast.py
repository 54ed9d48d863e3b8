"""Which form extrapolates? Hold back the largest compute, refit on the rest, compare, and weigh.

For each of several cuts in compute (or in x, for laws of one quantity and for learning curves), every form is fitted to the runs below the cut and asked for those
above it. Nothing of the runs to be forecast is looked at, only rows of the training table. The forecast is the
geometric mean of the forms' predictions, weighted by the inverse squares of the mean squares of these errors
(Bates & Granger 1969 take the first power); its interval is that of the mixture of their refits, widened by the error that the backtest measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaling.laws import checks
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.estimate import Solver
from scaling.laws.fit import Fit, fit
from scaling.laws.forms import FORMS
from scaling.laws.forms.base import Form
from scaling.laws.objective import Objective
from scaling.laws.table import CannotFit, Table

# Kaplan's law has no floor, so far beyond the table it must come out too low; ask for it by name.
DEFAULT_FORMS = ("chinchilla", "chinchilla_tied")
# of one quantity; a bare power law has no floor either
CURVE_FORMS = ("power_offset", "shifted_power", "m4", "broken")
HELD_BACK = (0.15, 0.25, 0.35, 0.45)  # share of the runs, by compute, that each fold holds back
DISAGREE = 0.02  # relative difference of predictions from which the forms are said to disagree


@dataclass(frozen=True)
class Combined:
    """A forecast, the forms it is made of, and how each did in the backtest."""

    values: np.ndarray  # one per point
    intervals: tuple[Interval, ...]  # for the loss of a new run at each point
    fits: dict[str, Fit]
    weights: dict[str, float]
    errors: dict[str, list[float]]  # root mean square log error on the held-back runs, per fold
    folds: tuple[float, ...]  # share of the runs that each of these folds held back
    notes: tuple[str, ...]


def backtest(
    table: Table, forms: Sequence[Form], objective: Objective
) -> tuple[dict[str, list[float]], list[float], list[str]]:
    """(root mean square log errors per form and fold, the folds' shares, notes on folds not made)."""
    errors: dict[str, list[float]] = {f.name: [] for f in forms}
    folds, notes = [], []
    scale = table["flops" if "flops" in table or len(forms[0].inputs) > 1 else forms[0].inputs[0]]
    order = np.argsort(scale, kind="stable")
    for share in HELD_BACK:
        cut = scale[order[len(table) - max(1, round(share * len(table)))]]
        below = scale < cut
        scores = {}
        for form in forms:
            try:
                checks.require_spread(table.rows(below), form, len(form.parameters))
            except CannotFit as error:
                notes.append(f"backtest below {cut:.3g}: {error}")
                continue
            solver = Solver.of(table, form, objective, weights_N=below.astype(float))
            # the grid of starts may know the rows below the cut only
            solution, _ = solver.from_grid(
                form.starts(solver.logs_NF[below], solver.target_N[below])
            )
            value = solver.ranked(solution)
            if not np.isfinite(value).any():
                notes.append(f"backtest below {cut:.3g}: {form.name} found no law")
                continue
            missed = solver.log_residuals(solution.params_RP[value.argmin()])
            scores[form.name] = float(np.sqrt(np.mean(missed[~below] ** 2)))
        if len(scores) == len(forms):
            folds.append(share)
            for name, score in scores.items():
                errors[name].append(score)
    return errors, folds, notes


def forecast(
    table: Table,
    *inputs,
    forms: Sequence[str] = (),
    objective: Objective | None = None,
    bootstrap: int = 500,
    confidence: float = 0.9,
) -> Combined:
    """Losses of new runs by the backtest-weighted combination of `forms`.

    `inputs` are n_params and tokens of the new runs, or one x for a table with a column x; forms default to
    DEFAULT_FORMS or CURVE_FORMS. Raises CannotFit where no form can be fitted or the forms take other inputs.
    """
    objective = objective or Objective()
    inputs = np.broadcast_arrays(*(np.atleast_1d(x) for x in inputs))
    forms = forms or (CURVE_FORMS if len(inputs) == 1 else DEFAULT_FORMS)
    for name in forms:
        if len(FORMS[name].inputs) != len(inputs):
            raise CannotFit(f"forecast: {name} is a law of {', '.join(FORMS[name].inputs)}")
    fits, notes = {}, []
    for name in forms:
        try:
            fits[name] = fit(
                table, name, objective=objective, bootstrap=bootstrap, confidence=confidence
            )
        except CannotFit as error:
            notes.append(str(error))
    if not fits:
        raise CannotFit("forecast: " + "; ".join(notes))
    errors, folds, missing = backtest(table, [FORMS[name] for name in fits], objective)
    notes += missing
    weights = dict.fromkeys(fits, 1 / len(fits))
    smallest = min(f.spread for f in fits.values())
    mean_square = {
        name: float(np.mean(np.square(errors[name]))) if errors[name] else np.nan for name in fits
    }
    if all(np.isfinite(v) for v in mean_square.values()):
        # errors below the scatter of single runs are luck, so they do not count as better
        inverse = {n: max(v, smallest**2) ** -2.0 for n, v in mean_square.items()}
        weights = {n: float(v / sum(inverse.values())) for n, v in inverse.items()}
    else:
        notes.append("too few rows for a backtest: equal weights")
    logs = {n: np.log(f.predict(*inputs)) for n, f in fits.items()}
    values = np.exp(sum(w * logs[n] for n, w in weights.items()))
    kept = {n: w for n, w in weights.items() if w > 0.02}
    mixture = [
        f.prediction_draws(*inputs)[: max(1, round(bootstrap * kept[n] / max(kept.values())))]
        for n, f in fits.items()
        if n in kept
    ]
    draws = np.concatenate(mixture)
    # forms that all miss in the same way do so again: their error in the backtest widens the interval
    missed = float(np.sqrt(sum(w * mean_square[n] for n, w in kept.items()) / sum(kept.values())))
    if np.isfinite(missed):
        beyond = np.sqrt(max(missed**2 - smallest**2, 0.0))
        noise = np.random.default_rng(1).standard_normal((len(draws), 1))
        draws = draws * np.exp(beyond * noise)
    for name, log in logs.items():
        gap = float(np.max(np.abs(log - np.log(values))))
        if gap > DISAGREE:
            notes.append(
                f"{name} differs by up to {gap:.1%} from the forecast (weight {weights[name]:.2f})"
            )
    return Combined(
        values=values,
        intervals=tuple(
            interval(float(v), d, confidence) for v, d in zip(values, draws.T, strict=True)
        ),
        fits=fits,
        weights=weights,
        errors=errors,
        folds=tuple(folds),
        notes=tuple(notes),
    )
