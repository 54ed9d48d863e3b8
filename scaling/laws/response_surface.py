"""Fit the best learning rate, batch and time scale of weight decay to all runs at once.

Near its lowest, the log loss of a cell (runs of one N and D) is a quadratic in x = (log lr, log B,
log tau), with tau = B / (lr lambda D). Its minimum moves linearly in n = log N and d = log D:

    log L = c_cell + (g_0 + g_N n + g_D d) x + x H x / 2

H has one off-diagonal entry, that of lr and B. The fit is linear in c, g and H. At a given batch,
log lr* = -(g_lr + H_lr,B log B) / H_lr,lr. The best batch and tau are those of the minimum x*.

Shapes: N rows, K coefficients, B resamples, F varying hyperparameters.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.table import CannotFit, Table

NEAR = 0.05  # largest relative excess over a cell's lowest loss of the rows that are fitted
HYPERPARAMETERS = ("lr", "batch", "tau")


@dataclass(frozen=True)
class Surface:
    """The optimum of each hyperparameter as a power law, from one quadratic over all rows."""

    rules: dict[str, dict[str, Interval]]  # hyperparameter -> coefficient and exponents
    curvature: dict[str, float]  # d^2 log L / d (log x)^2, the others fixed
    residual: float  # standard deviation of log losses about the surface
    n_rows: int
    n_cells: int

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

    `constant` names exponents to hold at 0, as ("tau", "n_exponent").
    A rule is left out if its hyperparameter takes fewer than three values in every cell, or if the
    surface has no minimum in it. Raises CannotFit if the rows do not determine the surface, or if
    it has no minimum in lr.
    """
    cell_N = _cells(table)
    lowest = np.array([table.loss[cell_N == k].min() for k in range(cell_N.max() + 1)])
    rows = table.loss <= lowest[cell_N] * (1 + near)
    table, cell_N = table.rows(rows), cell_N[rows]
    names = [h for h in HYPERPARAMETERS if h in table and _values_in_a_cell(table[h], cell_N) > 2]
    if "lr" not in names:
        raise CannotFit("response surface: lr takes fewer than three values near the lowest losses")
    design_NK, spans = _design(table, cell_N, names, constant)
    y_N = np.log(table.loss)
    if len(y_N) <= design_NK.shape[1] or np.linalg.matrix_rank(design_NK) < design_NK.shape[1]:
        raise CannotFit(
            f"response surface: {len(y_N)} rows near the lowest losses do not determine "
            f"{design_NK.shape[1]} coefficients; add sizes, lengths or rates"
        )
    solution_K = _solve(design_NK, y_N, np.ones(len(y_N)))
    rng = np.random.default_rng(0)
    counts_BN = rng.multinomial(len(y_N), np.full(len(y_N), 1 / len(y_N)), size=bootstrap)
    draws = [_optima(_solve(design_NK, y_N, count_N), spans) for count_N in counts_BN]
    value = _optima(solution_K, spans)
    if "lr" not in value:
        raise CannotFit("response surface: the loss has no minimum in lr; widen its range")
    freedom = len(y_N) - design_NK.shape[1]
    rules = {}
    for name, rule in value.items():
        found = [draw[name] for draw in draws if name in draw]
        rules[name] = {
            key: interval(v, np.array([draw[key] for draw in found]), confidence, freedom)
            for key, v in rule.items()
        }
    residual_N = y_N - design_NK @ solution_K
    return Surface(
        rules=rules,
        curvature={n: float(2 * solution_K[spans["square"][n]]) for n in value},
        residual=float(np.sqrt(residual_N @ residual_N / freedom)),
        n_rows=len(y_N),
        n_cells=int(cell_N.max() + 1),
    )


def _cells(table: Table) -> np.ndarray:
    """Return `[N]`, the number of each row's cell: equal n_params, and tokens within 2%."""
    keys = np.stack([table.n_params, np.round(np.log(table.tokens) / 0.02)], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)


def _values_in_a_cell(x_N: np.ndarray, cell_N: np.ndarray) -> int:
    """Return the number of different values in the cell that has the most."""
    logs_N = np.log(x_N).round(6)
    return max(len(np.unique(logs_N[cell_N == k])) for k in range(cell_N.max() + 1))


def _design(table: Table, cell_N: np.ndarray, names: list[str], constant):
    """Return (design `[N, K]`, where each coefficient is, by kind and name)."""
    x = {name: np.log(table[name]) for name in names}
    moved = {"n_exponent": np.log(table.n_params), "d_exponent": np.log(table.tokens)}
    columns = [(cell_N == k).astype(float) for k in range(cell_N.max() + 1)]
    spans: dict[str, dict] = {"square": {}, "slope": {}, "cross": {}}

    def add(kind: str, key, column: np.ndarray) -> None:
        spans[kind][key] = len(columns)
        columns.append(column)

    for name in names:
        add("square", name, x[name] ** 2)
        add("slope", (name, "coefficient"), x[name])
        for key, log_N in moved.items():
            if np.ptp(log_N) > 0 and (name, key) not in constant:
                add("slope", (name, key), x[name] * log_N)
    if "batch" in names:
        add("cross", ("lr", "batch"), x["lr"] * x["batch"])
    return np.stack(columns, axis=1), spans


def _solve(design_NK, y_N, count_N) -> np.ndarray:
    root_N = np.sqrt(count_N)
    return np.linalg.lstsq(design_NK * root_N[:, None], y_N * root_N, rcond=1e-12)[0]


def _optima(solution_K: np.ndarray, spans) -> dict[str, dict[str, float]]:
    """Return hyperparameter -> {coefficient, exponents} of its optimum, where it has a minimum."""
    names = list(spans["square"])
    h_FF = np.diag([2 * solution_K[spans["square"][name]] for name in names])
    if spans["cross"]:
        i, j = names.index("lr"), names.index("batch")
        h_FF[i, j] = h_FF[j, i] = solution_K[spans["cross"]["lr", "batch"]]
    s = spans["slope"]
    slopes = {
        key: np.array([solution_K[s[name, key]] if (name, key) in s else 0.0 for name in names])
        for key in dict.fromkeys(key for _, key in s)
    }
    rules: dict[str, dict[str, float]] = {}
    lr = names.index("lr")
    if h_FF[lr, lr] > 0:
        rule = {key: -g_F[lr] / h_FF[lr, lr] for key, g_F in slopes.items()}
        cross = h_FF[lr, names.index("batch")] if "batch" in names else 0.0
        rules["lr"] = rule | {"batch_exponent": -cross / h_FF[lr, lr]}
    if np.linalg.eigvalsh(h_FF)[0] > 0:  # a minimum in all of them
        best = {key: -np.linalg.solve(h_FF, g_F) for key, g_F in slopes.items()}
        for i, name in enumerate(names):
            if name != "lr":
                rules[name] = {key: x_F[i] for key, x_F in best.items()}
    for rule in rules.values():
        rule["coefficient"] = float(np.exp(rule["coefficient"]))
        for key in ("n_exponent", "d_exponent"):
            rule.setdefault(key, 0.0)
    return {name: {k: float(v) for k, v in rule.items()} for name, rule in rules.items()}
