"""Fit Chinchilla's law by variable projection: search the two exponents, solve for the rest.

For given (alpha, beta) the best E, A, B >= 0 of L = E + A N^-alpha + B D^-beta solve a linear
least-squares problem (Golub & Pereyra 1973). The search then has two dimensions and no bad starts.
Unlike the parabolas of approach 2 it has no bias on noiseless losses, for any exponents and any
width of the grid (Czech 2026).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.laws import agreement, checks, diagnose, evidence
from scaling.laws.bootstrap import Interval, interval, resample_counts
from scaling.laws.forms.registry import CHINCHILLA
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

GRID = np.geomspace(0.05, 1.5, 12)  # starting exponents of the search
# Share of the median loss up to which E or a term at the centre of the table counts as 0. If the
# exact solution is 0, least squares leave 1e-16 to 1e-13 of the losses, depending on the CPU.
ABSENT = 1e-9


@dataclass(frozen=True)
class VarproFit:
    """The law and its intervals; a and b are the exponents of N*(C) and D*(C)."""

    intervals: dict[str, Interval]  # E, A, B, alpha, beta, a, b
    residuals: np.ndarray  # relative: L / law - 1, per row
    warnings: tuple[Notice, ...]

    equation = CHINCHILLA.equation


def fit_varpro(table: Table, *, bootstrap: int = 100, confidence: float = 0.9) -> VarproFit:
    """Fit by least squares of relative residuals; resamples draw single runs.

    Raises CannotFit if rows are too few or too alike, or if a term is 0.
    """
    from scipy.optimize import minimize, nnls  # takes longer to import than all of scaling.laws

    checks.require_spread(table, CHINCHILLA, 5)
    log_n, log_d = np.log(table.n_params), np.log(table.tokens)
    centre_n, centre_d = log_n.mean(), log_d.mean()
    absent = ABSENT * float(np.median(table.loss))

    def linear(exponents, counts):
        """Return (E and the terms' sizes at the centre, sum of squares)."""
        alpha, beta = exponents
        terms = [
            np.ones(len(table)),
            np.exp(-alpha * (log_n - centre_n)),
            np.exp(-beta * (log_d - centre_d)),
        ]
        design = np.stack(terms, axis=1) * (np.sqrt(counts) / table.loss)[:, None]
        solution, norm = nnls(design, np.sqrt(counts))
        return solution, norm**2

    def search(counts, start):
        optimum = minimize(
            lambda q: linear(np.exp(q), counts)[1] if np.all(np.abs(q) < 4) else np.inf,
            np.log(start),
            method="Nelder-Mead",
            options={"xatol": 1e-9, "fatol": 1e-18, "maxiter": 800},
        )
        return np.exp(optimum.x)

    ones = np.ones(len(table))
    scores = np.array([[linear((a, b), ones)[1] for b in GRID] for a in GRID])
    i, j = np.unravel_index(scores.argmin(), scores.shape)
    exponents = search(ones, (GRID[i], GRID[j]))

    def natural(exponents, counts):
        (e, near_a, near_b), _ = linear(exponents, counts)
        alpha, beta = exponents
        if min(near_a, near_b) <= absent:
            return np.full(7, np.nan)
        a = near_a * np.exp(alpha * centre_n)
        b = near_b * np.exp(beta * centre_d)
        return np.array([e, a, b, alpha, beta, beta / (alpha + beta), alpha / (alpha + beta)])

    best = natural(exponents, ones)
    if not np.isfinite(best).all():
        raise CannotFit("varpro: one of the terms is 0; the losses do not fall with both inputs")
    draws = np.array(
        [
            natural(search(counts, exponents), counts)
            for counts in resample_counts(len(table), bootstrap)
        ]
    ).reshape(-1, 7)
    names = ("E", "A", "B", "alpha", "beta", "a", "b")
    law = best[0] + best[1] * np.exp(-best[3] * log_n) + best[2] * np.exp(-best[4] * log_d)
    warnings = checks.input_warnings(table, CHINCHILLA)
    warnings += diagnose.few_resamples(bootstrap, confidence)
    intervals = {n: interval(best[k], draws[:, k], confidence) for k, n in enumerate(names)}
    judged = {
        n: interval(best[k], draws[: evidence.JUDGED, k], confidence) for k, n in enumerate(names)
    }
    for name in ("alpha", "beta"):
        warnings += diagnose.wide(name, judged[name])
    warnings += agreement.of_law(table, judged["a"], evidence.JUDGED, confidence)
    if best[0] <= absent:
        warnings.append(Notice(notices.NOT_IDENTIFIED, "E is not identified: the fit puts it at 0"))
    return VarproFit(
        intervals,
        table.loss / law - 1,
        tuple(warnings),
    )
