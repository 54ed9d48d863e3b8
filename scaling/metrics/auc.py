"""Compute the area under the receiver operating characteristic, and its influences.

The area is the probability that a positive scores above a negative; ties count half. The influences
are the placements of DeLong et al. (1988): the share of negatives below a positive, and vice versa.

Shapes: N examples, C classes, P positives, Q negatives.
"""

from __future__ import annotations

import numpy as np

ROWS = 4096  # examples per softmax, to limit memory


def area(score_N: np.ndarray, positive_N: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (area, influences `[N]`) of scores; `positive_N` must contain both values."""
    score_P, score_Q = score_N[positive_N], score_N[~positive_N]
    N, P, Q = len(score_N), len(score_P), len(score_Q)
    below_P = _below(np.sort(score_Q), score_P)
    value = float(below_P.sum()) / (P * Q)
    influence_N = np.empty(N)
    influence_N[positive_N] = (below_P / Q - value) * (N / P)
    influence_N[~positive_N] = (1 - _below(np.sort(score_P), score_Q) / P - value) * (N / Q)
    return value, influence_N


def one_against_rest(logits_NC: np.ndarray, y_N: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (mean area, influences) over the classes with examples, by softmax probability.

    At least two classes must have examples.
    """
    parts = [logits_NC[i : i + ROWS].astype(np.float64) for i in range(0, len(logits_NC), ROWS)]
    log_total_N = np.concatenate([np.logaddexp.reduce(part, axis=1) for part in parts])
    classes, value, influence_N = np.unique(y_N), 0.0, np.zeros(len(y_N))
    for c in classes:
        class_area, class_influence_N = area(logits_NC[:, c] - log_total_N, y_N == c)
        value, influence_N = value + class_area, influence_N + class_influence_N
    return value / len(classes), influence_N / len(classes)


def _below(sorted_M: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the number of elements of `sorted_M` below each of x; equal ones count half."""
    left, right = (np.searchsorted(sorted_M, x, side=side) for side in ("left", "right"))
    return (left + right) / 2
