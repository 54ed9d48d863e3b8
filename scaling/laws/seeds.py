"""Group rows of equal inputs (seeds) to points with mean, standard deviation and count.

Shapes: N rows, F columns that identify a point, P points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DIGITS = 9  # significant digits of the columns; values that agree in them are equal


@dataclass(frozen=True)
class Repeats:
    """The points of a table, in order of their first column, then the second, and so on."""

    first_P: np.ndarray  # index of the first row of each point
    mean_P: np.ndarray
    sd_P: np.ndarray  # of single rows about their mean; NaN for a single row
    count_P: np.ndarray
    member_N: np.ndarray  # the point of each row

    @property
    def pooled(self) -> float:
        """Return the pooled standard deviation of rows about their point; NaN without repeats."""
        freedom_P = self.count_P - 1
        if not freedom_P.any():
            return float("nan")
        return float(np.sqrt(np.nansum(freedom_P * self.sd_P**2) / freedom_P.sum()))


def repeats(columns, y) -> Repeats:
    """Average `y` `[N]` over rows alike in all `columns`.

    `columns` is a list of sequences of N numbers or texts.
    """
    y_N = np.asarray(y, float)
    codes_NF = np.stack([_codes(c) for c in columns], axis=1)
    _, first_P, member_N = np.unique(codes_NF, axis=0, return_index=True, return_inverse=True)
    member_N = member_N.reshape(-1)
    count_P = np.bincount(member_N, minlength=len(first_P))
    mean_P = np.bincount(member_N, y_N) / count_P
    squares_P = np.bincount(member_N, (y_N - mean_P[member_N]) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        sd_P = np.sqrt(squares_P / (count_P - 1))
    return Repeats(first_P, mean_P, sd_P, count_P, member_N)


def _codes(column) -> np.ndarray:
    """Return `[N]` whole numbers in the order of the values."""
    values = np.asarray(column)
    if values.dtype.kind in "fiu":
        values = np.array([float(f"{v:.{DIGITS}g}") for v in values])
    return np.unique(values, return_inverse=True)[1].reshape(-1)
