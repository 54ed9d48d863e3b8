"""Combine forecasts: weights from expected squared errors and the weighted geometric mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def inverse_power(expected: Mapping[str, float], power: float) -> dict[str, float]:
    """Return weights proportional to (expected squared error)^-power, summing to 1.

    Power 1 is that of Bates & Granger 1969 without covariances, 0 gives equal weights.
    """
    log = {name: -power * np.log(max(value, 1e-300)) for name, value in expected.items()}
    raw = {name: float(np.exp(v - max(log.values()))) for name, v in log.items()}
    return {name: v / sum(raw.values()) for name, v in raw.items()}


def geometric_mean(values: Mapping[str, np.ndarray | float], weights: Mapping[str, float]):
    """Return the product of the values to the power of their weights."""
    return np.exp(sum(w * np.log(values[name]) for name, w in weights.items()))
