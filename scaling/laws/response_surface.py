"""Fit the best learning rate, batch and time scale of weight decay to all runs at once.

Near its lowest, the log loss of a cell (runs of one N and D) is a sum of parabolas in log lr, log B
and log tau, with tau = B / (lr lambda D). Their minima move linearly in n = log N and d = log D.
That of lr also moves with b = log B:

    log L = c_cell + sum_x h_x (x - (p_x + q_x n + r_x d))^2,   x in (log lr - s b, b, log tau)

Without squares the sum is linear in products of x, n and d. It is fitted twice by least squares:
first with a free product of log lr and b, which gives s, then with that s.

Shapes: N rows, K coefficients, B resamples.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval, resample_counts
from scaling.laws.table import CannotFit, Table

NEAR = 0.05  # largest relative excess over a cell's lowest loss of the rows that are fitted
HYPERPARAMETERS = ("lr", "batch", "tau")


@dataclass(frozen=True)
class Surface:
    """The optimum of each hyperparameter as a power law, from one quadratic over all rows."""

    rules: dict[str, dict[str, Interval]]  # hyperparameter -> coefficient and exponents
    curvature: dict[str, float]  # d^2 log L / d (log x)^2, for batch with lr at its best
    residual: float  # standard deviation of log losses about the surface

    def loss_of_factor(self, name: str, factor: float) -> float:
        """Return the relative loss that a hyperparameter off by `factor` costs."""
        return float(np.expm1(self.curvature[name] * np.log(factor) ** 2 / 2))


def fit_surface(
    table: Table,
    *,
    constant: Collection[tuple[str, str]] = (),
    near: float = NEAR,
    bootstrap: int = 500,
    confidence: float = 0.9,
) -> Surface:
    """Fit the surface to columns n_params, tokens, loss and lr; batch and tau where they vary.

    `constant` names exponents to hold at 0, as ("tau", "n_exponent"). A rule is left out if its
    hyperparameter takes fewer than three values in every cell, or if the surface has no minimum in
    it. Raises CannotFit if the rows do not determine the surface, or if
    it has no minimum in lr.
    """
    cell_N = _cells(table)
    lowest = np.array([table.loss[cell_N == k].min() for k in range(cell_N.max() + 1)])
    rows = table.loss <= lowest[cell_N] * (1 + near)
    table, cell_N = table.rows(rows), cell_N[rows]
    names = [h for h in HYPERPARAMETERS if h in table and _values_in_a_cell(table[h], cell_N) > 2]
    if "lr" not in names:
        raise CannotFit("response surface: lr takes fewer than three values near the lowest losses")
    problem = _Problem(table, cell_N, names, frozenset(constant))
    if not problem.is_determined():
        raise CannotFit(
            f"response surface: {len(table)} rows near the lowest losses do not determine it; add "
            "sizes, lengths or rates"
        )
    rules, curvature, residual_N = problem.solve(np.ones(len(table)))
    if "lr" not in rules:
        raise CannotFit("response surface: the loss has no minimum in lr; widen its range")
    draws = [problem.solve(count_N)[0] for count_N in resample_counts(len(table), bootstrap)]
    freedom = max(len(table) - problem.count, 1)
    return Surface(
        rules={
            name: {
                key: interval(
                    value,
                    np.array([draw[name][key] for draw in draws if name in draw]),
                    confidence,
                    freedom,
                )
                for key, value in rule.items()
            }
            for name, rule in rules.items()
        },
        curvature={name: curvature[name] for name in rules},
        residual=float(np.sqrt(residual_N @ residual_N / freedom)),
    )


def _cells(table: Table) -> np.ndarray:
    """Return `[N]`, the number of each row's cell: equal n_params, and tokens within 2%."""
    keys = np.stack([table.n_params, np.round(np.log(table.tokens) / 0.02)], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _values_in_a_cell(x_N: np.ndarray, cell_N: np.ndarray) -> int:
    """Return the number of different values in the cell that has the most."""
    logs_N = np.log(x_N).round(6)
    return max(len(np.unique(logs_N[cell_N == k])) for k in range(cell_N.max() + 1))


class _Problem:
    """The least-squares problem of one table."""

    def __init__(self, table: Table, cell_N, names: list[str], constant: frozenset):
        self.names, self.y_N = names, np.log(table.loss)
        self.cells = [(cell_N == k).astype(float) for k in range(cell_N.max() + 1)]
        self.x = {name: np.log(table[name]) for name in names}
        logs = {"n_exponent": np.log(table.n_params), "d_exponent": np.log(table.tokens)}
        self.moved = {
            name: {k: v for k, v in logs.items() if np.ptp(v) > 0 and (name, k) not in constant}
            for name in names
        }
        self.count = len(self._design(0.0)[0].T) + ("batch" in names)

    def _design(self, batch_exponent: float):
        """Return (design `[N, K]`, hyperparameter -> {square, coefficient, exponents: column})."""
        columns, at = list(self.cells), {}
        for name in self.names:
            x_N = self.x[name]
            if name == "lr" and "batch" in self.x:
                x_N = x_N - batch_exponent * self.x["batch"]
            parts = {"square": x_N**2, "coefficient": x_N}
            parts |= {key: x_N * log_N for key, log_N in self.moved[name].items()}
            at[name] = {key: len(columns) + i for i, key in enumerate(parts)}
            columns += parts.values()
        return np.stack(columns, axis=1), at

    def is_determined(self) -> bool:
        """Return whether the rows determine all coefficients."""
        design_NK = self._with_product(self._design(0.0)[0])
        return len(self.y_N) > self.count and np.linalg.matrix_rank(design_NK) == self.count

    def _with_product(self, design_NK: np.ndarray) -> np.ndarray:
        """Append the product of log lr and log batch, if batches vary."""
        if "batch" not in self.x:
            return design_NK
        return np.column_stack([design_NK, self.x["lr"] * self.x["batch"]])

    def solve(self, count_N: np.ndarray):
        """Return (rules, curvatures, residuals `[N]`) with rows counted so many times.

        A hyperparameter without a minimum has no rule.
        """
        root_N = np.sqrt(count_N)

        def least_squares(design_NK):
            scaled_NK, y_N = design_NK * root_N[:, None], self.y_N * root_N
            return np.linalg.lstsq(scaled_NK, y_N, rcond=1e-12)[0]

        design_NK, at = self._design(0.0)
        exponent = 0.0
        if "batch" in self.x:
            free_K = least_squares(self._with_product(design_NK))
            exponent = float(-free_K[-1] / (2 * free_K[at["lr"]["square"]]))
            design_NK, at = self._design(exponent)
        solution_K = least_squares(design_NK)
        rules, curvature = {}, {}
        for name, columns in at.items():
            values = {key: float(solution_K[i]) for key, i in columns.items()}
            curvature[name] = 2 * values.pop("square")
            if curvature[name] > 0:
                rule = dict.fromkeys(("coefficient", "n_exponent", "d_exponent"), 0.0)
                rule |= {key: 0.0 - value / curvature[name] for key, value in values.items()}
                with np.errstate(over="ignore"):  # a resample that hardly curves: no finite optimum
                    rule["coefficient"] = float(np.exp(rule["coefficient"]))
                rules[name] = rule | ({"batch_exponent": exponent} if name == "lr" else {})
        return rules, curvature, self.y_N - design_NK @ solution_K
