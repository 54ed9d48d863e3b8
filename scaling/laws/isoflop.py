"""Approach 2 of Hoffmann et al. 2022: a parabola in log N per budget, power laws through the minima.

    log L = c0 + c1 (log N - log N0) + c2 (log N - log N0)^2,   N* = N0 exp(-c1 / 2 c2)

A minimum counts only where the parabola opens upward and N* lies inside the range of sizes measured
at that budget with at least one size on each side of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.power import PowerFit, fit_power
from scaling.laws.table import CannotFit, Table

MIN_SIZES = 4  # a parabola through three points has no residuals


@dataclass(frozen=True)
class Profile:
    """One budget's parabola and its minimum."""

    budget: float
    n_opt: Interval
    tokens_opt: Interval
    loss_opt: Interval
    coefficients: np.ndarray  # c2, c1, c0 in x = log N - log_n0
    log_n0: float
    problem: str  # "" where the minimum is real and interior
    draws: np.ndarray = field(repr=False, default_factory=lambda: np.empty((0, 3)))

    def curve(self, n_params) -> np.ndarray:
        """Fitted loss at sizes `n_params`."""
        return np.exp(np.polyval(self.coefficients, np.log(n_params) - self.log_n0))


@dataclass(frozen=True)
class IsoflopFit:
    """Parabolas of all budgets and the power laws N*(C), D*(C) and L*(C) through good minima."""

    profiles: tuple[Profile, ...]
    n_opt: PowerFit
    tokens_opt: PowerFit
    frontier: PowerFit  # loss at the optimum against compute, without an irreducible term
    warnings: tuple[str, ...]


def fit_isoflop(table: Table, *, bootstrap: int = 500, confidence: float = 0.9) -> IsoflopFit:
    """Fit every budget of `table.budget`, then the laws of the optimum.

    Raises CannotFit where fewer than two budgets have an interior minimum, saying why for each.
    """
    budgets = [b for b in np.unique(table.budget) if b > 0]
    if not budgets:
        raise CannotFit("isoflop: no row has a budget; give the column of IsoFLOP groups")
    profiles = [
        _profile(table.rows(table.budget == b), float(b), bootstrap, confidence) for b in budgets
    ]
    good = [p for p in profiles if not p.problem]
    problems = [f"budget {p.budget:.3g}: {p.problem}" for p in profiles if p.problem]
    if len(good) < 2:
        raise CannotFit(
            f"isoflop: {len(good)} of {len(profiles)} budgets have an interior minimum, needs 2 ("
            + "; ".join(problems)
            + ")"
        )
    compute = np.array([p.budget for p in good])
    laws = [
        fit_power(
            compute,
            [getattr(p, name).value for p in good],
            np.stack([p.draws[:, column] for p in good], axis=1),
            confidence=confidence,
        )
        for column, name in enumerate(("n_opt", "tokens_opt", "loss_opt"))
    ]
    decades = np.log10(compute.max() / compute.min())
    if decades < 1:
        problems.append(f"the good minima span {decades:.2f} decades of compute, less than 1")
    n_opt, tokens_opt, frontier = laws
    return IsoflopFit(tuple(profiles), n_opt, tokens_opt, frontier, tuple(problems))


def _profile(rows: Table, budget: float, bootstrap: int, confidence: float) -> Profile:
    log_n, log_loss = np.log(rows.n_params), np.log(rows.loss)
    log_n0 = float(log_n.mean())
    sizes = len(np.unique(rows.n_params))
    nothing = Interval(*(float("nan"),) * 4)
    if sizes < MIN_SIZES:
        problem = f"{sizes} sizes, a parabola needs {MIN_SIZES}"
        return Profile(budget, nothing, nothing, nothing, np.full(3, np.nan), log_n0, problem)
    # tokens are not exactly C / N: heads, attention and whole steps come in, so D(N) is interpolated
    order = np.argsort(log_n)

    def tokens_at(log_size: float) -> float:
        return float(np.exp(np.interp(log_size, log_n[order], np.log(rows.tokens)[order])))

    def minimum(weights: np.ndarray):
        coefficients = np.polyfit(log_n - log_n0, log_loss, 2, w=np.sqrt(weights))
        c2, c1, _ = coefficients
        if not c2 > 0:
            return coefficients, (np.nan,) * 3, "the parabola opens downward"
        x = -c1 / (2 * c2)
        log_best = x + log_n0
        values = (np.exp(log_best), tokens_at(log_best), np.exp(np.polyval(coefficients, x)))
        used = log_n[weights > 0]
        if not used.min() < log_best < used.max():
            return coefficients, values, "the minimum is at the edge of the sizes measured"
        return coefficients, values, ""

    coefficients, values, problem = minimum(np.ones(len(log_n)))
    residual = log_loss - np.polyval(coefficients, log_n - log_n0)
    # Residual bootstrap (Efron 1979), since resampled sizes often leave no parabola; residuals are
    # widened for the three fitted coefficients.
    rng = np.random.default_rng(0)
    widened = (residual - residual.mean()) * np.sqrt(len(log_n) / (len(log_n) - 3))
    fitted = log_loss - residual
    draws = np.full((bootstrap, 3), np.nan)
    for i in range(bootstrap):
        again = fitted + rng.choice(widened, len(log_n))
        c2, c1, c0 = np.polyfit(log_n - log_n0, again, 2)
        x = -c1 / (2 * c2)
        if c2 > 0 and log_n.min() < x + log_n0 < log_n.max():
            loss = np.exp(c0 + c1 * x + c2 * x * x)
            draws[i] = np.exp(x + log_n0), tokens_at(x + log_n0), loss
    n_opt, tokens_opt, loss_opt = (
        interval(v, draws[:, i], confidence) for i, v in enumerate(values)
    )
    return Profile(budget, n_opt, tokens_opt, loss_opt, coefficients, log_n0, problem, draws)
