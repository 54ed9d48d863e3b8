"""Find the best learning rate or batch size of each group of like runs, and the cost of an error.

In each group log loss is a quadratic in log lr, or in (log lr, log batch) if both vary. It is
fitted to the lowest point, its neighbours on the grid and other points `near` it in loss. Further
out, losses rise more steeply on one side than on the other, which would move the minimum. An
optimum counts only inside the grid: the lowest point has neighbours on all sides, and the quadratic
has a minimum between the points.

Shapes: N rows of a group, P points (rows with seeds averaged), F varying hyperparameters, B
resamples, G groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from scaling.laws import seeds
from scaling.laws.bootstrap import Interval, interval
from scaling.laws.distributions import normal_quantile
from scaling.laws.quadratic import Quadratics, averaged, coefficients, fit_quadratics
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

HYPERPARAMETERS = ("lr", "batch")
SAME = 0.02  # relative difference of n_params, tokens or FLOPs of runs in one group
COST = 0.01  # relative excess of the loss within `Tuned.tolerated`
DIGITS = 9  # decimals of log lr and log batch; values that agree in them are equal
EQUAL_LOSS = 1e-9  # seeds agree if the standard deviation of their log losses is below this
UNLIKE = 4.0  # largest ratio of the scatter of seeds to that of the residuals
NOWHERE = Interval(*(float("nan"),) * 4)


@dataclass(frozen=True)
class Tuned:
    """One group's optimum of one hyperparameter."""

    inputs: dict[str, float]  # n_params, tokens, flops: geometric means over the group
    optimum: Interval
    se: float  # standard error of its log by the delta method; NaN without residuals
    at: dict[str, float]  # all hyperparameters at the optimum
    loss: float  # at the optimum, nats per token
    tolerated: tuple[float, float]  # range within COST of the lowest loss, clipped to the grid
    n_runs: int
    problem: Notice | None  # None if the optimum exists and is interior
    draws_B: np.ndarray = field(repr=False)  # log optima of the resamples, NaN without an optimum


def tuned(table: Table, hyper: str, *, near: float, bootstrap: int, confidence: float):
    """Return a `Tuned` of `hyper`, "lr" or "batch", per group; bad ones have a reason.

    Runs of equal n_params and tokens (or flops, if the table has no tokens) form a group. The noise
    is that of the residuals of all quadratics, widened for the fitted coefficients, since one
    profile has too few points. If no quadratic has residuals, it is that of the seeds. Raises
    CannotFit if the table lacks a column.
    """
    groups = [table.rows(g) for g in _groups(table)]
    bowls = [_bowl(rows, hyper, near) for rows in groups]
    residuals = [
        b.residual_P * np.sqrt(b.runs_P * len(b.runs_P) / b.free) for b in bowls if b.free > 0
    ]
    pool = np.concatenate(residuals) if residuals else _seed_noise(bowls)
    rng = np.random.default_rng(0)
    return [
        _tune(rows, bowl, hyper, pool, rng, bootstrap, confidence)
        for rows, bowl in zip(groups, bowls, strict=True)
    ]


def _seed_noise(bowls: list[_Bowl]) -> np.ndarray:
    """Return quantiles of a normal distribution of the scatter of seeds; empty without seeds."""
    repeated = [b.repeats for b in bowls if b.repeats > EQUAL_LOSS]
    if not repeated:
        return np.empty(0)
    return np.sqrt(np.mean(np.square(repeated))) * normal_quantile((np.arange(200) + 0.5) / 200)


def _groups(table: Table) -> list[np.ndarray]:
    """Return the indices of the rows of each group, by size and then by tokens."""
    names = [n for n in ("n_params", "tokens" if "tokens" in table else "flops") if n in table]
    if not names:
        raise CannotFit("tuned: the table needs n_params, tokens or flops to group runs")
    keys = []
    for name in names:
        log = np.log(table[name])
        order = np.argsort(log)
        label = np.empty(len(log), int)
        label[order] = np.concatenate([[0], np.cumsum(np.diff(log[order]) > np.log1p(SAME))])
        keys.append(label)
    _, member = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)
    return [np.flatnonzero(member.reshape(-1) == g) for g in range(member.max() + 1)]


@dataclass(frozen=True)
class _Bowl:
    """The quadratic near a group's lowest loss, or the `problem` that prevents it."""

    problem: Notice | None = None
    names: tuple[str, ...] = ()  # varying hyperparameters
    x_PF: np.ndarray = field(default_factory=lambda: np.empty((0, 1)))  # logs, from `centre_F`
    centre_F: np.ndarray = field(default_factory=lambda: np.zeros(1))
    fitted_P: np.ndarray = field(default_factory=lambda: np.empty(0))
    residual_P: np.ndarray = field(default_factory=lambda: np.empty(0))
    runs_P: np.ndarray = field(default_factory=lambda: np.empty(0))
    quadratic: Quadratics | None = None
    repeats: float = 0.0  # standard deviation of log losses of rows alike in `names`

    @property
    def free(self) -> int:
        """Return the number of points less the coefficients of the quadratic."""
        return len(self.runs_P) - coefficients(self.x_PF.shape[1])

    def inside(self, x_BF: np.ndarray) -> np.ndarray:
        """Return `[B]`, True for `x_BF` strictly within the range of the points."""
        return ((x_BF > self.x_PF.min(axis=0)) & (x_BF < self.x_PF.max(axis=0))).all(axis=1)


def _bowl(rows: Table, hyper: str, near: float) -> _Bowl:
    varying = tuple(h for h in HYPERPARAMETERS if h in rows and len(np.unique(rows[h])) > 1)
    rows[hyper]  # raises if the column is missing
    if hyper not in varying:
        return _Bowl(Notice(notices.NOT_VARIED, f"{hyper} takes one value"))
    x_NF = np.round(np.log(np.stack([rows[h] for h in varying], axis=1)), DIGITS)
    y_N = np.log(rows.loss) - np.log(rows.loss).mean()
    x_PF, y_P, runs_P = averaged(x_NF, y_N)
    pooled = seeds.repeats(x_NF.T, y_N).pooled
    y_P = y_P + np.log(rows.loss).mean()
    neighbour_P = np.ones(len(y_P), bool)
    lowest_F = x_PF[y_P.argmin()]
    for name, x_P, lowest in zip(varying, x_PF.T, lowest_F, strict=True):
        values = np.unique(x_P)
        i = int(np.searchsorted(values, lowest))
        if i in (0, len(values) - 1):
            side = "smaller" if i == 0 else "larger"
            text = (
                f"the lowest loss is at the edge of the grid, {name} {np.exp(lowest):.3g}; try "
                f"{side} ones"
            )
            return _Bowl(Notice(notices.EDGE_OF_GRID, text))
        neighbour_P &= (x_P >= values[i - 1]) & (x_P <= values[i + 1])
    used_P = neighbour_P | (y_P <= y_P.min() + np.log1p(near))
    x_PF, y_P, runs_P = x_PF[used_P], y_P[used_P], runs_P[used_P]
    quadratic = fit_quadratics(x_PF - lowest_F, y_P[None], runs_P)
    if quadratic is None:
        text = (
            f"{len(y_P)} points near the lowest loss do not determine a quadratic in "
            f"{' and '.join(varying)}"
        )
        return _Bowl(Notice(notices.UNDETERMINED_QUADRATIC, text))
    fitted_P = quadratic.at(x_PF - lowest_F)[0]
    bowl = _Bowl(
        None,
        varying,
        x_PF - lowest_F,
        lowest_F,
        fitted_P,
        y_P - fitted_P,
        runs_P,
        quadratic,
        0.0 if np.isnan(pooled) else pooled,
    )
    best_1F, _ = quadratic.minima()
    if np.isnan(best_1F).any() and len(varying) == 1:
        return _Bowl(Notice(notices.NO_MINIMUM, "the parabola opens downward"))
    if np.isnan(best_1F).any():
        return _Bowl(Notice(notices.SADDLE, "the quadratic is no bowl"))
    if not bowl.inside(best_1F)[0]:
        text = "the minimum lies outside the points around the lowest loss"
        return _Bowl(Notice(notices.OUTSIDE_MINIMUM, text))
    return bowl


def _tune(rows, bowl: _Bowl, hyper: str, pool, rng, bootstrap: int, confidence: float) -> Tuned:
    names = [n for n in ("n_params", "tokens", "flops") if n in rows]
    inputs = {n: float(np.exp(np.log(rows[n]).mean())) for n in names}
    nothing = np.full(bootstrap, np.nan)
    if bowl.quadratic is None:
        nan = float("nan")
        return Tuned(inputs, NOWHERE, nan, {}, nan, (nan, nan), len(rows), bowl.problem, nothing)
    best_1F, lowest_1 = bowl.quadratic.minima()
    log_best_F = best_1F[0] + bowl.centre_F
    i = bowl.names.index(hyper)
    draws_B, lost_share = nothing, 0.0
    if len(pool):
        noise_BP = rng.choice(pool, (bootstrap, len(bowl.runs_P))) / np.sqrt(bowl.runs_P)
        refits = fit_quadratics(bowl.x_PF, bowl.fitted_P + noise_BP, bowl.runs_P)
        assert refits is not None
        best_BF, _ = refits.minima()
        # keep an optimum beyond the points, at most their width away from them
        width_F = np.ptp(bowl.x_PF, axis=0)
        clipped_BF = np.clip(
            best_BF, bowl.x_PF.min(axis=0) - width_F, bowl.x_PF.max(axis=0) + width_F
        )
        draws_B = clipped_BF[:, i] + bowl.centre_F[i]
        lost_share = 1 - float(np.mean(bowl.inside(best_BF))) if bootstrap else 0.0
    problem = None
    if lost_share > 0.5:
        text = f"noise moves the optimum off the grid in {lost_share:.0%} of the refits"
        problem = Notice(notices.NOISY_MINIMUM, text)
    elif len(pool) and bowl.repeats > UNLIKE * max(float(pool.std()), 1e-6):
        problem = Notice(
            notices.HIDDEN_VARIABLE,
            f"rows of equal {' and '.join(bowl.names)} differ by {bowl.repeats:.2g} in log loss, "
            f"the profile's residuals by {pool.std():.2g}: something else varies; name it (--lr, "
            "--batch) or keep one value of it (--where)",
        )
    reach = np.sqrt(2 * np.log1p(COST) / bowl.quadratic.hessian_BFF[0, i, i])
    grid = np.log([rows[hyper].min(), rows[hyper].max()])
    low, high = np.exp(np.clip(log_best_F[i] + np.array([-reach, reach]), *grid))
    return Tuned(
        inputs=inputs,
        optimum=interval(float(np.exp(log_best_F[i])), np.exp(draws_B), confidence),
        se=float(pool.std() * _sensitivity(bowl, best_1F[0])[i]) if len(pool) else float("nan"),
        at=dict(zip(bowl.names, np.exp(log_best_F).tolist(), strict=True)),
        loss=float(np.exp(lowest_1[0])),
        tolerated=(float(low), float(high)),
        n_runs=len(rows),
        problem=problem,
        draws_B=draws_B,
    )


def _sensitivity(bowl: _Bowl, best_F: np.ndarray) -> np.ndarray:
    """Return `[F]`, the standard error of the minimum per unit of noise in a run's log loss.

    The minimum solves g + H x = 0, so a change of one point's loss moves it by -H^-1 (dg + dH x).
    """
    per_point = fit_quadratics(
        bowl.x_PF, np.eye(len(bowl.runs_P)), bowl.runs_P
    )  # linear in the losses
    assert per_point is not None and bowl.quadratic is not None
    change_PF = per_point.gradient_BF + per_point.hessian_BFF @ best_F
    slopes_PF = -np.linalg.solve(bowl.quadratic.hessian_BFF[0], change_PF.T).T
    return np.sqrt(np.sum(slopes_PF**2 / bowl.runs_P[:, None], axis=0))
