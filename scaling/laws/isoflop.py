"""Fit a parabola in log N per budget and power laws through the minima (IsoFLOP profiles).

This is approach 2 of Hoffmann et al. 2022:

    log L = c0 + c1 (log N - log N0) + c2 (log N - log N0)^2,   N* = N0 exp(-c1 / 2 c2)

With `method="akima"` the profile is Akima's spline through the points (Akima 1970; Porian et al.
2024). It follows profiles that differ from a parabola, as on wide grids or with unequal exponents.

A minimum counts only if the parabola opens upward and N* lies inside the range of sizes measured at
that budget, with at least one size on each side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scaling.laws import checks, diagnose, evidence, profile_tests
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.power import PowerFit, fit_power
from scaling.laws.quadratic import averaged, fit_quadratics
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

METHODS = ("parabola", "akima")
MIN_SIZES = 4  # a parabola through three points has no residuals
AT_EDGE = 1e-9  # a minimum this near an end of the sizes, per width in log N, is at the edge


@dataclass(frozen=True)
class Profile:
    """One budget's parabola and its minimum."""

    budget: float
    n_opt: Interval
    tokens_opt: Interval
    loss_opt: Interval
    coefficients: np.ndarray  # c2, c1, c0 in x = log N - log_n0
    log_n0: float
    log_points: np.ndarray  # [2, sizes] log N and log loss of the spline's points
    runs: np.ndarray  # [sizes] runs averaged to each point
    problem: Notice | None  # None if the minimum exists and is interior
    method: str = "parabola"
    draws: np.ndarray = field(repr=False, default_factory=lambda: np.empty((0, 3)))

    def curve(self, n_params) -> np.ndarray:
        """Return the fitted loss at sizes `n_params`; a spline is NaN outside its points."""
        log_n = np.log(n_params)
        if self.method == "akima":
            return np.exp(_akima(*self.log_points)(log_n))
        return np.exp(np.polyval(self.coefficients, log_n - self.log_n0))


@dataclass(frozen=True)
class IsoflopFit:
    """Profiles of all budgets and the power laws N*(C), D*(C), L*(C) through good minima."""

    profiles: tuple[Profile, ...]
    n_opt: PowerFit
    tokens_opt: PowerFit
    frontier: PowerFit  # loss at the optimum against compute, without an irreducible term
    warnings: tuple[Notice, ...]


def fit_isoflop(
    table: Table, *, method: str = "parabola", bootstrap: int = 500, confidence: float = 0.9
) -> IsoflopFit:
    """Fit a profile to every budget of `table.budget`, then the laws of the optimum.

    `method` is "parabola" or "akima". Raises CannotFit if fewer than two budgets have an interior
    minimum, with the reason for each.
    """
    if method not in METHODS:
        raise CannotFit(f"isoflop: method {method!r} is unknown; choose from {', '.join(METHODS)}")
    budgets = [b for b in np.unique(table.budget) if b > 0]
    if not budgets:
        raise CannotFit(
            "isoflop: no row has a budget, a group of 4 or more rows of equal FLOPs; name the "
            "column of IsoFLOP groups, --budget=COLUMN"
        )
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
    problems += _doubts(good, laws, method, bootstrap, confidence)
    return IsoflopFit(tuple(profiles), n_opt, tokens_opt, frontier, tuple(problems))


def _doubts(
    good: list[Profile], laws: list[PowerFit], method: str, bootstrap: int, confidence: float
) -> list[Notice]:
    """Return notices on profiles that are no parabolas and on laws that the minima do not fix."""
    found = checks.few_degrees(len(good) - 2, f"{len(good)} minima for a line of 2 parameters")
    points = [
        profile_tests.Points(p.budget, p.log_points[0], p.log_points[1], p.runs) for p in good
    ]
    found += profile_tests.shapes(points, parabola=method == "parabola")
    n_opt, tokens_opt, frontier = laws
    if not bootstrap:
        return found
    found += diagnose.few_resamples(bootstrap, confidence)
    for name, law in (("N*", n_opt), ("D*", tokens_opt)):
        judged = interval(law.exponent.value, law.draws[: evidence.JUDGED, 1], confidence)
        found += diagnose.wide(f"the exponent of {name}", judged, diagnose.EXPONENT_WIDTH)
        if law.exponent.value <= 0:
            text = f"{name} falls with compute: exponent {law.exponent.brief()}"
            found.append(Notice(notices.RISING_LAW, text))
    if frontier.exponent.value >= 0:
        text = f"the loss at the minima rises with compute: exponent {frontier.exponent.brief()}"
        found.append(Notice(notices.RISING_LAW, text))
    return found


def _profile(
    rows: Table, budget: float, method: str, bootstrap: int, confidence: float, seed: int
) -> Profile:
    # average the log losses of seeds of one size to one point of the profile
    log_n_N1 = np.log(rows.n_params)[:, None]
    log_n_P1, log_loss, runs = averaged(log_n_N1, np.log(rows.loss))
    log_d = averaged(log_n_N1, np.log(rows.tokens))[1]
    log_n = log_n_P1[:, 0]
    log_n0 = float(log_n.mean())
    points = np.stack([log_n, log_loss])
    nothing = Interval(*(float("nan"),) * 4)
    if len(log_n) < MIN_SIZES:
        text = (
            f"{len(log_n)} sizes, a parabola needs {MIN_SIZES}; add sizes at this budget, or name "
            "a column of wider groups with --budget=COLUMN"
        )
        too_few = Notice(notices.FEW_SIZES, text)
        empty = np.full(3, np.nan)
        return Profile(
            budget, nothing, nothing, nothing, empty, log_n0, points, runs, too_few, method
        )

    def locate(values_BP: np.ndarray):
        """Return `[B]` log N*, their log losses and curvatures of profiles; NaN without minimum."""
        if method == "akima":
            found_B2 = np.array([_akima_minimum(log_n, y_P) for y_P in values_BP]).reshape(-1, 2)
            return found_B2[:, 0], found_B2[:, 1], np.zeros(len(found_B2))
        bowls = fit_quadratics(log_n_P1 - log_n0, values_BP, runs)
        assert bowls is not None  # MIN_SIZES distinct sizes
        best_BF, lowest_B = bowls.minima()
        return best_BF[:, 0] + log_n0, lowest_B, bowls.hessian_BFF[:, 0, 0]

    def optimum(log_best, log_lowest, curvature) -> np.ndarray:
        """Return `[B, 3]` N*, D* and loss."""
        # keep a minimum beyond the sizes, at most their width in log N away from them
        width = log_n[-1] - log_n[0]
        log_near = np.clip(log_best, log_n[0] - width, log_n[-1] + width)
        log_lowest = log_lowest + curvature * (log_near - log_best) ** 2 / 2
        # Heads, attention and whole steps make tokens differ from C / N, so D(N) is interpolated.
        # Beyond the sizes it continues as 1 / N.
        overshoot = log_near - np.clip(log_near, log_n[0], log_n[-1])
        log_d_near = np.interp(log_near, log_n, log_d) - overshoot
        return np.exp(np.stack([log_near, log_d_near, log_lowest], axis=1))

    coefficients = np.polyfit(log_n - log_n0, log_loss, 2, w=np.sqrt(runs))
    found = locate(log_loss[None])
    log_best, log_lowest = float(found[0][0]), float(found[1][0])
    values, problem = optimum(*found)[0].tolist(), None
    if not np.isfinite(log_best):
        problem = Notice(notices.NO_MINIMUM, "the parabola opens downward")
    elif min(log_best - log_n[0], log_n[-1] - log_best) <= AT_EDGE * (log_n[-1] - log_n[0]):
        text = "the minimum is at the edge of the sizes measured"
        problem = Notice(notices.EDGE_MINIMUM, text)
    # Residual bootstrap (Efron 1979), since resampled sizes often leave no profile. Residuals of
    # single runs are taken from the parabola (for a spline, from a cubic) and widened for the
    # fitted coefficients. Each budget has draws of its own, since its noise is independent.
    degree = 2 if method == "parabola" else min(3, len(log_n) - 2)
    smooth = np.polyval(
        np.polyfit(log_n - log_n0, log_loss, degree, w=np.sqrt(runs)), log_n - log_n0
    )
    residual = (log_loss - smooth) * np.sqrt(runs)
    freedom = len(log_n) - degree - 1
    widened = (residual - residual.mean()) * np.sqrt(len(log_n) / max(freedom, 1))
    rng = np.random.default_rng([0, seed])
    centre = smooth if method == "parabola" else log_loss
    moves_BP = np.array([rng.choice(widened, len(log_n)) for _ in range(bootstrap)])
    draws = np.empty((0, 3))
    if bootstrap:
        draws = optimum(*locate(centre + moves_BP / np.sqrt(runs)))
    if method == "akima" and bootstrap:
        # remove the mean bias: the lowest point of a spline through noisy points is too low
        draws[:, 2] *= np.exp(log_lowest - np.mean(np.log(draws[:, 2])))
    n_opt, tokens_opt, loss_opt = (
        interval(v, draws[:, i], confidence) for i, v in enumerate(values)
    )
    return Profile(
        budget, n_opt, tokens_opt, loss_opt, coefficients, log_n0, points, runs, problem, method,
        draws,
    )  # fmt: skip


def _akima(log_n: np.ndarray, log_loss: np.ndarray):
    """Return Akima's spline. Its import takes as long as all of scaling.laws."""
    from scipy.interpolate import Akima1DInterpolator

    return Akima1DInterpolator(log_n, log_loss)


def _akima_minimum(log_n: np.ndarray, log_loss: np.ndarray) -> tuple[float, float]:
    """Return (x, y) of the lowest point of Akima's spline, from stationary points and knots."""
    spline = _akima(log_n, log_loss)
    flat = spline.derivative().roots(extrapolate=False)
    candidates = np.concatenate([log_n, flat[np.isfinite(flat)]])
    heights = spline(candidates)
    best = int(np.argmin(heights))
    return float(candidates[best]), float(heights[best])
