"""Approach 3 of Hoffmann et al. 2022: L(N, D) = E + A / N^alpha + B / D^beta.

Fitted as in the paper: the sum of Huber losses of log L minus the log-sum-exp of the three terms, over
(a, b, e, alpha, beta) with A = exp(a), B = exp(b), E = exp(e), from a grid of starts. The lowest
objective wins; how many starts reach it is part of the answer.

At fixed compute C = 6 N D (or any C = k N D) the optimum follows in closed form:

    N* = G (C / k)^a,  D* = (C / k)^b / G,  G = (alpha A / beta B)^(1 / (alpha + beta)),
    a = beta / (alpha + beta),  b = alpha / (alpha + beta)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from scaling.laws.bootstrap import Interval, interval, resample_counts
from scaling.laws.solve import minimise
from scaling.laws.table import CannotFit, Table, require_spread

NAMES = ("A", "B", "E", "alpha", "beta")
EQUATION = "L(N, D) = E + A / N^alpha + B / D^beta"
REACHED = (
    1e-6  # relative excess of objective under which a start counts as having reached the optimum
)
STARTS_PER_RESAMPLE = 3
WORTHLESS = 0.8  # share of the objective of a constant loss above which a law says nothing


def predict_log_loss(params_P, features_N2):
    """log L of (a, b, e, alpha, beta) at rows of (log N, log D); used inside the solver."""
    import jax
    import jax.numpy as jnp

    a, b, e, alpha, beta = params_P
    log_n, log_d = features_N2[:, 0], features_N2[:, 1]
    terms = jnp.stack([a - alpha * log_n, b - beta * log_d, jnp.broadcast_to(e, log_n.shape)])
    return jax.nn.logsumexp(terms, axis=0)


@dataclass(frozen=True)
class ChinchillaFit:
    """The law, its uncertainty and what to think of it."""

    values: dict[str, float]  # A, B, E, alpha, beta
    intervals: dict[str, Interval]  # the same and a = beta / (alpha + beta)
    objective: float
    delta: float
    reached: float  # fraction of starts that reached the optimum
    n_rows: int
    residuals: np.ndarray  # log loss - log prediction, per row
    draws: np.ndarray = field(repr=False)  # [resamples, 5] A, B, E, alpha, beta
    warnings: tuple[str, ...]
    verdict: str  # "good" | "weakly identified"
    confidence: float

    equation = EQUATION

    def predict(self, n_params, tokens):
        """Loss at sizes and lengths, arrays of equal shape."""
        return chinchilla_loss(self.values, n_params, tokens)

    def prediction_interval(self, n_params: float, tokens: float) -> Interval:
        """Interval for the loss of a new run: refits' spread plus the scatter of one run.

        Scatter is drawn from the residuals, widened for the five fitted parameters.
        """
        draws = self.prediction_draws(n_params, tokens)
        return interval(float(self.predict(n_params, tokens)), draws, self.confidence)

    def prediction_draws(self, n_params: float, tokens: float) -> np.ndarray:
        """`[resamples]` losses behind `prediction_interval`."""
        rng = np.random.default_rng(0)
        columns = dict(zip(NAMES, self.draws.T, strict=True))
        widened = self.residuals * np.sqrt(self.n_rows / (self.n_rows - len(NAMES)))
        scatter = np.exp(rng.choice(widened, len(self.draws)))
        return chinchilla_loss(columns, n_params, tokens) * scatter

    def optimum(self, flops: float, flops_per_n_d: float = 6.0) -> tuple[Interval, Interval]:
        """N* and D* at `flops` = flops_per_n_d * N * D, with intervals."""
        product = flops / flops_per_n_d
        n_value, d_value = _optimum(self.values, product)
        columns = dict(zip(NAMES, self.draws.T, strict=True))
        n_draws, d_draws = _optimum(columns, product)
        return (
            interval(n_value, n_draws, self.confidence),
            interval(d_value, d_draws, self.confidence),
        )


def chinchilla_loss(values, n_params, tokens):
    """E + A / N^alpha + B / D^beta, through logs, so that a huge A with a huge alpha stays finite."""
    log_n, log_d = np.log(np.asarray(n_params, float)), np.log(np.asarray(tokens, float))
    with np.errstate(over="ignore"):
        return (
            values["E"]
            + np.exp(np.log(values["A"]) - values["alpha"] * log_n)
            + np.exp(np.log(values["B"]) - values["beta"] * log_d)
        )


def _optimum(values, product: float):
    alpha, beta = values["alpha"], values["beta"]
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = (alpha * values["A"] / (beta * values["B"])) ** (1 / (alpha + beta))
        n_opt = scale * product ** (beta / (alpha + beta))
    return n_opt, product / n_opt


def starts(table: Table) -> np.ndarray:
    """Grid of starts (a, b, e, alpha, beta), `[R, 5]`.

    E takes fractions of the lowest loss, and A and B make each term of a size with what is left of
    the loss at the middle of the table, so that the grid suits any units.
    """
    low, middle = table.loss.min(), np.median(table.loss)
    log_n, log_d = np.log(np.median(table.n_params)), np.log(np.median(table.tokens))
    grid = []
    for e_part, share, alpha, beta in itertools.product(
        (0.2, 0.5, 0.8, 0.95), (0.2, 0.5, 0.8), (0.1, 0.3, 0.6, 1.0), (0.1, 0.3, 0.6, 1.0)
    ):
        left = max(middle - e_part * low, 0.05 * middle)
        a = np.log(share * left) + alpha * log_n
        b = np.log((1 - share) * left) + beta * log_d
        grid.append((a, b, np.log(e_part * low), alpha, beta))
    return np.array(grid)


def fit_chinchilla(
    table: Table,
    *,
    delta: float = 1e-3,
    bootstrap: int = 500,
    confidence: float = 0.9,
) -> ChinchillaFit:
    """Fit E, A, B, alpha, beta to a table.

    Raises CannotFit where rows are too few or too alike, or no start ends at a positive law.
    """
    require_spread(table, len(NAMES), "chinchilla")
    features = np.stack([np.log(table.n_params), np.log(table.tokens)], axis=1)
    target = np.log(table.loss)
    grid = starts(table)
    solution = minimise(
        predict_log_loss, features, target, np.ones((len(grid), len(table))), grid, delta=delta
    )
    legal = np.isfinite(solution.objective_R) & (solution.params_RP[:, 3:] > 0).all(axis=1)
    if not legal.any():
        raise CannotFit(
            "chinchilla: no start ends at positive exponents; the losses do not fall with n_params "
            "and tokens"
        )
    objective = np.where(legal, solution.objective_R, np.inf)
    best = int(objective.argmin())
    lowest = float(objective[best])
    flat = _constant_objective(target, delta)
    if lowest > WORTHLESS * flat:
        raise CannotFit(
            "chinchilla: the law is hardly better than a constant loss; the losses do not fall with "
            "n_params and tokens"
        )
    reached = float((solution.objective_R <= lowest * (1 + REACHED) + 1e-15).mean())

    counts = resample_counts(table.budget, bootstrap)
    near = grid[np.argsort(objective)[: STARTS_PER_RESAMPLE - 1]]
    from_each = np.concatenate([solution.params_RP[best][None], near])
    again = minimise(
        predict_log_loss,
        features,
        target,
        np.repeat(counts, len(from_each), axis=0),
        np.tile(from_each, (bootstrap, 1)),
        delta=delta,
        near=True,
    )
    value = np.where(np.isfinite(again.objective_R), again.objective_R, np.inf)
    pick = value.reshape(bootstrap, -1).argmin(axis=1) + np.arange(bootstrap) * len(from_each)
    draws = _natural(again.params_RP[pick])

    values = dict(zip(NAMES, _natural(solution.params_RP[best][None])[0].tolist(), strict=True))
    intervals = {n: interval(values[n], draws[:, i], confidence) for i, n in enumerate(NAMES)}
    exponent = draws[:, 4] / (draws[:, 3] + draws[:, 4])
    a = values["beta"] / (values["alpha"] + values["beta"])
    intervals["a"] = interval(a, exponent, confidence)
    residuals = target - np.log(chinchilla_loss(values, table.n_params, table.tokens))
    warnings = _warnings(table, values, intervals, residuals, reached, delta)
    weak = any("identified" in w for w in warnings)
    return ChinchillaFit(
        values=values,
        intervals=intervals,
        objective=lowest,
        delta=delta,
        reached=reached,
        n_rows=len(table),
        residuals=residuals,
        draws=draws,
        warnings=tuple(warnings),
        verdict="weakly identified" if weak else "good",
        confidence=confidence,
    )


def _constant_objective(target: np.ndarray, delta: float) -> float:
    """Huber objective of the median, a law that knows neither N nor D."""
    size = np.abs(target - np.median(target))
    return float(np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).sum())


def _natural(params_RP: np.ndarray) -> np.ndarray:
    """(a, b, e, alpha, beta) to (A, B, E, alpha, beta)."""
    with np.errstate(over="ignore"):
        return np.concatenate([np.exp(params_RP[:, :3]), params_RP[:, 3:]], axis=1)


def _warnings(table, values, intervals, residuals, reached, delta) -> list[str]:
    found = []
    for name in ("alpha", "beta"):
        i = intervals[name]
        if not np.isfinite(i.se) or i.high - i.low > abs(values[name]):
            found.append(
                f"{name} is weakly identified: interval {i.low:.3g} to {i.high:.3g} around "
                f"{values[name]:.3g}"
            )
    if values["E"] < 0.05 * table.loss.min():
        found.append("E is not identified: the fit puts it near 0")
    elif not intervals["E"].low > 0.05 * table.loss.min():
        found.append(
            f"E is weakly identified: its interval reaches down to {intervals['E'].low:.3g}"
        )
    if reached < 0.01:
        found.append(f"only {reached:.1%} of the starts reach the optimum")
    if np.median(np.abs(residuals)) > 10 * delta:
        found.append(
            f"Huber delta {delta:g} is far below the typical residual "
            f"{np.median(np.abs(residuals)):.2g}: this is an L1 fit in effect"
        )
    decades = np.log10(table.flops.max() / table.flops.min())
    if decades < 1:
        found.append(f"the rows span {decades:.2f} decades of compute, less than 1")
    return found
