"""Forecast the loss of a sweep's next compute-optimal run by two laws, tested on held-back budgets.

Two laws forecast the loss of a compute-optimal run: the parametric L(N, D), which bends towards its
E, and the straight power law through the IsoFLOP minima. Each is refitted without the largest
budgets in turn, as long as three budgets remain, and predicts the minimum at the next budget. The
run to forecast is not used.

The forecast is the weighted geometric mean of both. Weights are inverse squares of the log errors
if at least three budgets are held back. With fewer they are equal, since weights estimated from one
or two forecasts do worse than none (the forecast combination puzzle, Stock & Watson 2004). The
errors are reported either way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.fit import Fit, fit_chinchilla
from scaling.laws.forecast_weights import geometric_mean, inverse_power
from scaling.laws.isoflop import IsoflopFit, fit_isoflop
from scaling.laws.table import CannotFit, Table

MIN_BUDGETS = 3  # least number of budgets in a refit
MIN_FOLDS = 3  # held-back budgets needed before their errors decide the weights
SMALLEST = 2e-3  # log error below which laws count as equally good
REFITS = 20  # the backtest needs no intervals


@dataclass(frozen=True)
class Forecast:
    """The combined forecast of one run's loss in nats per token, and its members."""

    loss: Interval
    members: dict[str, Interval]
    weights: dict[str, float]
    errors: dict[str, list[float]]  # log measured - log predicted at each held-back minimum
    notes: tuple[str, ...]


def backtest(
    table: Table, long_runs: Table, *, delta: float
) -> tuple[dict[str, list[float]], list[str]]:
    """Return (log errors per law at the held-back minima, notes on failed tests).

    The parametric law is fitted to `long_runs`, the parabolas to `table`. `delta` is the Huber
    threshold of L(N, D) (0: scaled to the residuals).
    """
    budgets = [b for b in np.unique(table.budget) if b > 0]
    errors: dict[str, list[float]] = {"chinchilla": [], "isoflop": []}
    notes = []
    try:
        profiles = {p.budget: p for p in fit_isoflop(table, bootstrap=REFITS).profiles}
    except CannotFit as error:
        return errors, [str(error)]
    for cut in range(len(budgets) - 1, MIN_BUDGETS - 1, -1):
        target = profiles[float(budgets[cut])]
        if target.problem:
            notes.append(f"no minimum at {target.budget:.3g} to test on: {target.problem}")
            continue
        earlier_rows, earlier_long_runs = (
            t.rows((t.budget > 0) & (t.budget < budgets[cut])) for t in (table, long_runs)
        )
        measured = np.log(target.loss_opt.value)
        try:
            law = fit_chinchilla(earlier_long_runs, delta=delta, bootstrap=REFITS)
            predicted = float(law.predict(target.n_opt.value, target.tokens_opt.value))
            errors["chinchilla"].append(float(measured - np.log(predicted)))
        except CannotFit as error:
            notes.append(str(error))
        try:
            frontier = fit_isoflop(earlier_rows, bootstrap=REFITS).frontier
            errors["isoflop"].append(float(measured - np.log(frontier.predict(target.budget))))
        except CannotFit as error:
            notes.append(str(error))
    return errors, notes


def combine(
    table: Table,
    long_runs: Table,
    chinchilla: Fit | None,
    isoflop: IsoflopFit | None,
    *,
    n_params: float,
    tokens: float,
    flops: float,
    delta: float,
    confidence: float,
) -> Forecast:
    """Forecast the loss of a run of `n_params`, `tokens` and `flops` near the optimum.

    The interval is that of the mixture of the laws' refits, widened by the scatter of single runs
    about the parametric law. It is wide if the laws disagree. Raises CannotFit if neither law could
    be fitted.
    """
    errors, notes = backtest(table, long_runs, delta=delta)
    rng = np.random.default_rng(0)
    draws: dict[str, np.ndarray] = {}
    members: dict[str, Interval] = {}
    if chinchilla:
        members["chinchilla"] = chinchilla.prediction_interval(n_params, tokens)
        draws["chinchilla"] = chinchilla.prediction_draws(n_params, tokens)[:, 0]
    if isoflop:
        power = isoflop.frontier
        centre = np.exp(power.draws[:, 0] + power.draws[:, 1] * np.log(flops))
        scatter = chinchilla.residuals if chinchilla else power.residuals
        draws["isoflop"] = centre * np.exp(rng.choice(scatter, len(centre)))
        members["isoflop"] = interval(float(power.predict(flops)), draws["isoflop"], confidence)
    if not members:
        raise CannotFit("forecast: neither the parametric nor the IsoFLOP law could be fitted")
    folds = min(len(errors[name]) for name in members)
    weights = dict.fromkeys(members, 1 / len(members))
    if folds >= MIN_FOLDS:
        expected = {n: max(float(np.mean(np.square(errors[n]))), SMALLEST**2) for n in members}
        weights = inverse_power(expected, 1.0)
    elif len(members) > 1:
        notes.append(f"{folds} held-back budget(s), fewer than {MIN_FOLDS}: equal weights")
    value = float(geometric_mean({n: m.value for n, m in members.items()}, weights))
    size = min(len(d) for d in draws.values())
    mixture = np.concatenate(
        [rng.choice(draws[n], max(1, round(4 * size * w))) for n, w in weights.items() if w > 0]
    )
    gap = [abs(np.log(m.value / value)) for m in members.values()]
    if max(gap) > 0.02:
        notes.append("the laws disagree by more than 2% at this compute")
    freedom = chinchilla.freedom if chinchilla else None
    return Forecast(
        interval(value, mixture, confidence, freedom), members, weights, errors, tuple(notes)
    )
