"""Define the objective of a fit: the loss on residuals, its threshold, and their scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.utils.errors import UserError

HUBER_EFFICIENT = 1.345  # Huber threshold of 95% efficiency, in standard deviations
L1_DELTA = 1e-8  # Huber with a threshold below all residuals
KINDS = ("huber", "least_squares", "l1", "likelihood")


@dataclass(frozen=True)
class Objective:
    """The sum over rows of w rho(r), r = log measured - log predicted (without logs if `linear`).

    kind:
      huber          rho(r) = r^2 / 2 below delta, delta (|r| - delta / 2) above. delta 0 means
                     1.345 times the residuals' robust standard deviation (Huber 1964) in a first
                     least-squares fit. Hoffmann et al. 2022 use 1e-3.
      least_squares  r^2 / 2
      l1             |r|
      likelihood     n log s + sum huber_delta(r / s), also minimised over the scale s, as in the
                     code of Hoffmann et al. 2022. With delta 1e-3 it is L1 in effect, since s
                     shrinks. delta is in units of s; 0 means 1.345.
    quantile: 0.5 is symmetric. A lower one gives less weight to runs above the curve, for the law
    of the best achievable loss in a table with badly tuned runs.

    Raises UserError for an unknown kind, a quantile outside (0, 1) or a negative delta.
    """

    kind: str = "huber"
    delta: float = 0.0
    quantile: float = 0.5
    linear: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise UserError(f"objective {self.kind!r} is unknown; choose from {', '.join(KINDS)}")
        if not (0 < self.quantile < 1):
            raise UserError(f"quantile={self.quantile}; must lie between 0 and 1")
        if not (np.isfinite(self.delta) and self.delta >= 0):
            raise UserError(
                f"huber_delta={self.delta}; must be 0 (scaled to residuals) or positive"
            )

    def describe(self, delta: float, target: str = "loss") -> str:
        """Describe the objective in one line for reports; `delta` is the threshold used."""
        quantity = target if self.linear else f"log {target}"
        text = {
            "huber": f"Huber loss with threshold {delta:.3g} on {quantity}, summed over rows",
            "least_squares": f"least squares on {quantity}",
            "l1": f"sum of absolute residuals of {quantity}",
            "likelihood": f"scale-adjusted Huber likelihood on {quantity}, threshold in effect "
            f"{delta:.3g}",
        }[self.kind]
        if self.delta == 0 and self.kind == "huber":
            text += " (1.345 robust standard deviations of the residuals)"
        if self.delta == 0 and self.kind == "likelihood":
            text += " (1.345 of the fitted scale)"
        return text + (f", quantile {self.quantile:g}" if self.quantile != 0.5 else "")


def robust_scale(residuals: np.ndarray, n_free: int, weights: np.ndarray | None = None) -> float:
    """Estimate the standard deviation of `[N]` residuals from their median absolute value.

    It is widened for the `n_free` fitted parameters. Weights `[N]` enter the median and the
    effective number of rows.
    """
    w = np.ones(len(residuals)) if weights is None else np.asarray(weights, float)
    size = np.abs(residuals)
    order = np.argsort(size)
    cumulated = np.cumsum(w[order]) - w[order] / 2
    mad = 1.4826 * np.interp(w.sum() / 2, cumulated, size[order])
    n = w.sum() ** 2 / np.sum(w**2)
    rms = np.sqrt(np.sum(w * residuals**2) / w.sum())
    return float(max(mad, 1e-3 * rms) * np.sqrt(n / max(n - n_free, 1)))
