"""Fit laws to the lower envelope of training curves (Hoffmann et al. 2022, approach 1).

Each run's logged loss is averaged over a window in log compute. At each compute, the run of the
lowest smoothed loss gives N and D. The learning rate has not fully decayed inside a run, so with
cosine schedules the envelope lies above the IsoFLOP minima. Its exponents are a cross-check and not
the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws.power import PowerFit, fit_power
from scaling.laws.table import CannotFit
from scaling.utils import notices
from scaling.utils.notices import Notice

POINTS_PER_DECADE = 40


@dataclass(frozen=True)
class Curve:
    """One run's training curve, in order of compute; losses are nats per token."""

    name: str
    n_params: float
    tokens: np.ndarray
    flops: np.ndarray
    loss: np.ndarray


@dataclass(frozen=True)
class EnvelopeFit:
    """The envelope's points and the power laws through them."""

    flops: np.ndarray
    loss: np.ndarray
    n_params: np.ndarray
    tokens: np.ndarray
    winners: tuple[str, ...]
    n_opt: PowerFit
    tokens_opt: PowerFit
    frontier: PowerFit
    warnings: tuple[Notice, ...]


def smooth(curve: Curve, grid: np.ndarray, half_width: float) -> np.ndarray:
    """Return the mean loss within `half_width` decades of each point of `grid` (log10 FLOPs).

    It is NaN outside the run.
    """
    x = np.log10(curve.flops)
    first = np.searchsorted(x, grid - half_width, "left")
    last = np.searchsorted(x, grid + half_width, "right")
    total = np.concatenate([[0.0], np.cumsum(curve.loss)])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (total[last] - total[first]) / (last - first)
    is_inside = (grid - half_width >= x[0]) & (grid <= x[-1]) & (last > first)
    return np.where(is_inside, mean, np.nan)


def fit_envelope(
    curves: list[Curve],
    *,
    smoothing: float = 0.1,
    bootstrap: int = 500,
    confidence: float = 0.9,
    flops_range: tuple[float, float] | None = None,
) -> EnvelopeFit:
    """Fit the envelope and its laws N(C), D(C) and L(C); resamples draw whole runs.

    `smoothing` is the half width of the window in decades of compute, `flops_range` the ends of the
    envelope in FLOPs. Raises CannotFit for fewer than three curves, curves that do not overlap, or
    fewer than three sizes on the envelope.
    """
    if len(curves) < 3:
        raise CannotFit(f"envelope: {len(curves)} training curves, it needs at least 3")
    low, high = flops_range or (
        float(np.median([c.flops[0] for c in curves])),
        max(float(c.flops[-1]) for c in curves),
    )
    if not high > low:
        raise CannotFit("envelope: the training curves do not overlap in compute")
    count = max(8, round(POINTS_PER_DECADE * np.log10(high / low)))
    grid = np.linspace(np.log10(low), np.log10(high), count)
    smoothed = np.stack([smooth(c, grid, smoothing) for c in curves])

    def envelope(rows: np.ndarray):
        losses = np.where(np.isfinite(smoothed[rows]), smoothed[rows], np.inf)
        best = losses.argmin(axis=0)
        return rows[best], losses[best, np.arange(len(grid))]

    def sizes(best):
        return np.array([curves[i].n_params for i in best])

    def lengths(best):
        x = 10**grid
        return np.array(
            [np.interp(f, curves[i].flops, curves[i].tokens) for f, i in zip(x, best, strict=True)]
        )

    best, loss = envelope(np.arange(len(curves)))
    covered = np.isfinite(loss)
    winners = {curves[i].n_params for i in best[covered]}
    if len(winners) < 3:
        raise CannotFit(
            f"envelope: {len(winners)} size(s) lie on it, it needs 3; widen the range of sizes or "
            "budgets"
        )
    rng = np.random.default_rng(0)
    draws = np.full((bootstrap, 3, len(grid)), np.nan)
    for i in range(bootstrap):
        drawn_runs, drawn_loss = envelope(rng.integers(0, len(curves), len(curves)))
        drawn_covered = np.isfinite(drawn_loss)
        draws[i, 0] = np.where(drawn_covered, sizes(drawn_runs), np.nan)
        draws[i, 1] = np.where(drawn_covered, lengths(drawn_runs), np.nan)
        draws[i, 2] = np.where(drawn_covered, drawn_loss, np.nan)
    x = 10 ** grid[covered]
    columns = (sizes(best)[covered], lengths(best)[covered], loss[covered])
    laws = [
        fit_power(x, column, draws[:, j][:, covered], confidence=confidence)
        for j, column in enumerate(columns)
    ]
    warnings = []
    extremes = {min(c.n_params for c in curves), max(c.n_params for c in curves)}
    edge = np.isin(columns[0], list(extremes)).mean()
    if edge > 0.1:
        text = f"{edge:.0%} of the envelope is the smallest or the largest size measured"
        warnings.append(Notice(notices.EDGE_OF_ENVELOPE, text))
    return EnvelopeFit(
        flops=x,
        loss=columns[2],
        n_params=columns[0],
        tokens=columns[1],
        winners=tuple(curves[i].name for i in best[covered]),
        n_opt=laws[0],
        tokens_opt=laws[1],
        frontier=laws[2],
        warnings=tuple(warnings),
    )
