"""Approach 2 of Hoffmann et al. 2022: a parabola in log N per budget, power laws through the
minima.

    log L = c0 + c1 (log N - log N0) + c2 (log N - log N0)^2,   N* = N0 exp(-c1 / 2 c2)

With `method="akima"` the profile is Akima's spline through the points instead (Akima 1970; Porian
et al. 2024), which follows profiles that are no parabola: wide grids, uneven exponents.

A minimum counts only where the parabola opens upward and N* lies inside the range of sizes measured
at that budget with at least one size on each side of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.power import PowerFit, fit_power
from scaling.laws.quadratic import averaged, fit_quadratics
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

METHODS = ("parabola", "akima")
MIN_SIZES = 4  # a parabola through three points has no residuals
AT_EDGE = 1e-9  # share of the width in log N up to which a minimum lies on the edge of the sizes


@dataclass(frozen=True)
class Profile:
    """One budget's parabola and its minimum."""

    budget: float
    n_opt: Interval
    tokens_opt: Interval
    loss_opt: Interval
    coefficients: np.ndarray  # c2, c1, c0 in x = log N - log_n0
    log_n0: float
    log_points: np.ndarray  # [2, sizes] log N and log loss that the spline goes through
    problem: Notice | None  # None where the minimum is real and interior
    method: str = "parabola"
    draws: np.ndarray = field(repr=False, default_factory=lambda: np.empty((0, 3)))

    def curve(self, n_params) -> np.ndarray:
        """Fitted loss at sizes `n_params`; NaN outside the sizes that a spline goes through."""
        log_n = np.log(n_params)
        if self.method == "akima":
            return np.exp(Akima1DInterpolator(*self.log_points)(log_n))
        return np.exp(np.polyval(self.coefficients, log_n - self.log_n0))


@dataclass(frozen=True)
class IsoflopFit:
    """Parabolas of all budgets and the power laws N*(C), D*(C) and L*(C) through good minima."""

    profiles: tuple[Profile, ...]
    n_opt: PowerFit
    tokens_opt: PowerFit
    frontier: PowerFit  # loss at the optimum against compute, without an irreducible term
    warnings: tuple[Notice, ...]


def fit_isoflop(
    table: Table, *, method: str = "parabola", bootstrap: int = 500, confidence: float = 0.9
) -> IsoflopFit:
    """Fit every budget of `table.budget`, then the laws of the optimum.

    `method` is "parabola" or "akima". Raises CannotFit where fewer than two budgets have an
    interior minimum, saying why for each.
    """
    if method not in METHODS:
        raise CannotFit(f"isoflop: method {method!r} is unknown; choose from {', '.join(METHODS)}")
    budgets = [b for b in np.unique(table.budget) if b > 0]
    if not budgets:
        raise CannotFit("isoflop: no row has a budget; give the column of IsoFLOP groups")
    profiles = [
        _profile(table.rows(table.budget == b), float(b), method, bootstrap, confidence, i)
        for i, b in enumerate(budgets)
    ]
    good = [p for p in profiles if not p.problem]
    problems = [p.problem.about(f"budget {p.budget:.3g}") for p in profiles if p.problem]
    if len(good) < 2:
        raise CannotFit(
            f"isoflop: {len(good)} of {len(profiles)} budgets have an interior minimum, needs 2 ("
            + "; ".join(map(str, problems))
            + ")"
        )
    compute = np.array([p.budget for p in good])
    laws = [
        fit_power(
            compute,
            [getattr(p, name).value for p in good],
            np.stack([p.draws[:, column] for p in good], axis=1),
            scattered=True,
            confidence=confidence,
        )
        for column, name in enumerate(("n_opt", "tokens_opt", "loss_opt"))
    ]
    decades = np.log10(compute.max() / compute.min())
    if decades < 1:
        text = f"the good minima span {decades:.2f} decades of compute, less than 1"
        problems.append(Notice(notices.NARROW_COMPUTE, text))
    n_opt, tokens_opt, frontier = laws
    return IsoflopFit(tuple(profiles), n_opt, tokens_opt, frontier, tuple(problems))


def _profile(
    rows: Table, budget: float, method: str, bootstrap: int, confidence: float, seed: int
) -> Profile:
    # seeds of one size are one point of the profile: the mean of their log losses
    log_n_N1 = np.log(rows.n_params)[:, None]
    log_n_P1, log_loss, runs = averaged(log_n_N1, np.log(rows.loss))
    log_d = averaged(log_n_N1, np.log(rows.tokens))[1]
    log_n = log_n_P1[:, 0]
    log_n0 = float(log_n.mean())
    points = np.stack([log_n, log_loss])
    nothing = Interval(*(float("nan"),) * 4)
    if len(log_n) < MIN_SIZES:
        few = Notice(notices.FEW_SIZES, f"{len(log_n)} sizes, a parabola needs {MIN_SIZES}")
        empty = np.full(3, np.nan)
        return Profile(budget, nothing, nothing, nothing, empty, log_n0, points, few, method)

    def located(values: np.ndarray) -> tuple[float, float, float]:
        """(log N*, log loss there, curvature) of a profile; NaN where it has no minimum."""
        if method == "akima":
            return *_akima_minimum(log_n, values), 0.0
        bowl = fit_quadratics(log_n_P1 - log_n0, values[None], runs)
        assert bowl is not None  # MIN_SIZES distinct sizes
        best_1F, lowest_1 = bowl.minima()
        return float(best_1F[0, 0]) + log_n0, float(lowest_1[0]), float(bowl.hessian_BFF[0, 0, 0])

    def optimum(log_best: float, log_lowest: float, curvature: float) -> tuple[float, float, float]:
        # a minimum beyond the sizes counts, at most as far beyond them as they are wide
        width = log_n[-1] - log_n[0]
        near = np.clip(log_best, log_n[0] - width, log_n[-1] + width)
        log_lowest += curvature * (near - log_best) ** 2 / 2
        # tokens are not exactly C / N: heads, attention and whole steps come in, so D(N) is
        # interpolated;
        # beyond the sizes it goes on as 1 / N
        beyond = near - np.clip(near, log_n[0], log_n[-1])
        return tuple(np.exp([near, np.interp(near, log_n, log_d) - beyond, log_lowest]))

    coefficients = np.polyfit(log_n - log_n0, log_loss, 2, w=np.sqrt(runs))
    log_best, log_lowest, curvature = located(log_loss)
    values, problem = optimum(log_best, log_lowest, curvature), None
    if not np.isfinite(log_best):
        problem = Notice(notices.NO_MINIMUM, "the parabola opens downward")
    elif min(log_best - log_n[0], log_n[-1] - log_best) <= AT_EDGE * (log_n[-1] - log_n[0]):
        text = "the minimum is at the edge of the sizes measured"
        problem = Notice(notices.EDGE_MINIMUM, text)
    # Residual bootstrap (Efron 1979), since resampled sizes often leave no profile. Residuals are
    # those of
    # the parabola, or of a cubic under a spline, of single runs and widened for the fitted
    # coefficients;
    # each budget draws by itself, since its noise has nothing to do with another's.
    degree = 2 if method == "parabola" else min(3, len(log_n) - 2)
    smooth = np.polyval(
        np.polyfit(log_n - log_n0, log_loss, degree, w=np.sqrt(runs)), log_n - log_n0
    )
    residual = (log_loss - smooth) * np.sqrt(runs)
    freedom = len(log_n) - degree - 1
    widened = (residual - residual.mean()) * np.sqrt(len(log_n) / max(freedom, 1))
    rng = np.random.default_rng([0, seed])
    around = smooth if method == "parabola" else log_loss
    draws = np.full((bootstrap, 3), np.nan)
    for i in range(bootstrap):
        draws[i] = optimum(*located(around + rng.choice(widened, len(log_n)) / np.sqrt(runs)))
    if method == "akima" and bootstrap:
        # the lowest point of a spline through noisy points is too low on average (here by this
        # much)
        draws[:, 2] *= np.exp(log_lowest - np.mean(np.log(draws[:, 2])))
    n_opt, tokens_opt, loss_opt = (
        interval(v, draws[:, i], confidence) for i, v in enumerate(values)
    )
    return Profile(
        budget, n_opt, tokens_opt, loss_opt, coefficients, log_n0, points, problem, method, draws
    )


def _akima_minimum(log_n: np.ndarray, log_loss: np.ndarray) -> tuple[float, float]:
    """(x, y) of the lowest point of Akima's spline, from its stationary points and knots."""
    spline = Akima1DInterpolator(log_n, log_loss)
    flat = spline.derivative().roots(extrapolate=False)
    candidates = np.concatenate([log_n, flat[np.isfinite(flat)]])
    heights = spline(candidates)
    best = int(np.argmin(heights))
    return float(candidates[best]), float(heights[best])
