"""Compare the exponents of the optimum under several conventions of N and of FLOPs.

    N* ~ C^a,  D* ~ C^b

Kaplan et al. 2020 count neither embeddings nor the head. Hoffmann et al. 2022 count every
parameter. Much of 0.73 against 0.50 comes from this (Pearce & Song 2024; Porian et al. 2024). A
convention sets the cost of each size, so it has an optimum of its own: the best size *at equal
compute of this convention*. Runs planned under one convention have unequal compute under another.
Each run of a group is therefore moved along its data, at its own size, to the mean log compute C0
of its group, before a profile is fitted:

    D' = D C0 / C,    L' = L + B (D'^-beta - D^-beta)

with B and beta of L(N, D) = E + A / N^alpha + B / D^beta, refitted in the convention's N. The term
of size cancels, so the measured profile alone decides how loss depends on N. The intervals include
the uncertainty of B and beta. No run is moved if every group agrees in compute, so a plan is
fitted unchanged under its own convention.

Converting the N and C of the planned minima to other units would keep the optimum of the old costs.
On Pearce & Song's law that gives 0.65, while minimising at equal non-embedding compute gives 0.78
(`tests/laws/test_conventions.py` derives both).

L(N, D) itself does not depend on FLOPs, only the cost of its optimum does. Its a = beta / (alpha +
beta) holds for a cost of k N D in the same N, so it has one line per convention of N.

Shapes: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scaling.laws.bootstrap import Interval, interval
from scaling.laws.fit import Fit, fit_chinchilla
from scaling.laws.isoflop import IsoflopFit, fit_isoflop
from scaling.laws.power import PowerFit
from scaling.laws.table import CannotFit, Table

SAME_COMPUTE = 0.05  # runs of a group that agree in log compute to this are not moved
LAW_DRAWS = 100  # refits of L(N, D) used for the uncertainty of B and beta in moved profiles
ISOFLOP, LAW = "isoflop", "L(N, D)"  # estimators
COST_OF_LAW = "k N D"
NOTHING = Interval(*(float("nan"),) * 4)


@dataclass(frozen=True)
class Case:
    """The runs under one pair of conventions."""

    label: str  # names the set of runs if several are compared, else ""
    n_params: str  # name of the convention of N
    flops: str  # name of the convention of C
    table: Table  # n_params and flops under these conventions; budget: the planned groups
    long_runs: Table  # rows to fit L(N, D) to


@dataclass(frozen=True)
class Exponents:
    """One line of the comparison; a and b are NaN if `refused` gives a reason."""

    label: str
    n_params: str
    flops: str
    estimator: str  # ISOFLOP or LAW
    a: Interval
    b: Interval
    minima: int  # budgets with an interior minimum; 0 for L(N, D)
    budgets: int
    notes: tuple[str, ...]
    refused: str = ""


def compare(
    cases: Iterable[Case],
    *,
    method: str,
    delta: float,
    bootstrap: int,
    confidence: float,
    parametric: bool,
) -> list[Exponents]:
    """Return the exponents of every case from IsoFLOP profiles.

    `parametric` adds those of L(N, D), one line per set of runs and convention of N. `method` is
    that of `fit_isoflop`, `delta` the Huber threshold of L(N, D) (0: scaled to the residuals). A
    case that cannot be fitted keeps its line, with the reason. Raises CannotFit with the first
    reason if no case can be fitted.
    """
    laws: dict[tuple[str, str], Fit | CannotFit] = {}

    def law_of(case: Case) -> Fit:
        key = (case.label, case.n_params)
        if key not in laws:
            try:
                laws[key] = fit_chinchilla(
                    case.long_runs, delta=delta, bootstrap=bootstrap, confidence=confidence
                )
            except CannotFit as error:
                laws[key] = error
        law = laws[key]
        if isinstance(law, CannotFit):
            raise CannotFit(str(law))
        return law

    rows, last = [], {}
    for case in cases:
        rows.append(_attempt(case, ISOFLOP, _profiles, law_of, method, bootstrap, confidence))
        last[case.label, case.n_params] = len(rows), case
    if parametric:
        for position, case in reversed(last.values()):
            rows.insert(position, _attempt(case, LAW, _law, law_of))
    if all(row.refused for row in rows):
        raise CannotFit(rows[0].refused if rows else "no conventions to compare")
    return rows


def _attempt(case: Case, estimator: str, fitter, *args) -> Exponents:
    flops = COST_OF_LAW if estimator == LAW else case.flops
    names = (case.label, case.n_params, flops, estimator)
    try:
        return Exponents(*names, *fitter(case, *args))
    except CannotFit as error:
        budgets = len(np.unique(case.table.budget[case.table.budget > 0]))
        return Exponents(*names, NOTHING, NOTHING, 0, budgets, (), str(error))


def _law(case: Case, law_of):
    law = law_of(case)
    a = law.intervals["a"]
    b = Interval(1 - a.value, a.se, 1 - a.high, 1 - a.low)
    notes = () if law.verdict == "good" else (law.verdict,)
    return a, b, 0, 0, notes


def _profiles(case: Case, law_of, method: str, bootstrap: int, confidence: float):
    group_rows = case.table.rows(case.table.budget > 0)
    compute_N, equal = group_compute(group_rows)
    profiles = group_rows.with_columns(budget=compute_N)
    notes: tuple[str, ...] = ()
    shifts = np.zeros((1, 2))
    if not equal:
        try:
            law = law_of(case)
        except CannotFit as error:
            raise CannotFit(
                f"isoflop: runs of a group differ in {case.flops} compute, and the law to move "
                f"them to equal compute cannot be fitted ({error})"
            ) from None
        factor = np.exp(np.abs(np.log(compute_N / group_rows.flops)).max())
        notes = (f"runs moved by up to {factor:.2g} times in tokens",)
        planned_rows, profiles = (
            profiles,
            at_equal_compute(profiles, law.values["B"], law.values["beta"]),
        )
        fit = fit_isoflop(profiles, method=method, bootstrap=bootstrap, confidence=confidence)
        shifts = _law_shifts(fit, planned_rows, law, method)
    else:
        fit = fit_isoflop(profiles, method=method, bootstrap=bootstrap, confidence=confidence)
    a, b = (
        _with_shifts(power, shifts[:, i], confidence)
        for i, power in enumerate((fit.n_opt, fit.tokens_opt))
    )
    good = sum(not p.problem for p in fit.profiles)
    return a, b, good, len(fit.profiles), (*notes, *map(str, fit.warnings))


def group_compute(table: Table) -> tuple[np.ndarray, bool]:
    """Return (`[N]` geometric mean FLOPs of each row's group, True if groups agree in compute)."""
    log_N = np.log(table.flops)
    mean_N, equal = np.zeros(len(table)), True
    for budget in np.unique(table.budget):
        group = table.budget == budget
        mean_N[group] = log_N[group].mean()
        equal = equal and bool(np.ptp(log_N[group]) <= SAME_COMPUTE)
    return np.exp(mean_N), equal


def at_equal_compute(table: Table, b: float, beta: float) -> Table:
    """Move runs along their data to the compute `table.budget`, by the data term b / D^beta.

    Raises CannotFit if the term exceeds the measured loss of a run.
    """
    tokens = table.tokens * table.budget / table.flops
    with np.errstate(over="ignore", invalid="ignore"):
        loss = table.loss + b * (tokens**-beta - table.tokens**-beta)
    if not (np.isfinite(loss) & (loss > 0)).all():
        raise CannotFit(
            f"isoflop: the law's data term, {b:.3g} / D^{beta:.3g}, moves a run to a loss below 0"
        )
    return table.with_columns(tokens=tokens, loss=loss, flops=table.budget)


def _law_shifts(fit: IsoflopFit, planned_rows: Table, law: Fit, method: str) -> np.ndarray:
    """Return `[draws, 2]`, the changes of a and b when refits of the law move the runs."""
    shifts = []
    columns = [law.form.parameters.index(name) for name in ("B", "beta")]
    for b, beta in law.draws[:LAW_DRAWS, columns]:
        try:
            moved_fit = fit_isoflop(
                at_equal_compute(planned_rows, b, beta), method=method, bootstrap=0
            )
        except CannotFit:
            shifts.append((np.nan, np.nan))
            continue
        shifts.append(
            (
                moved_fit.n_opt.exponent.value - fit.n_opt.exponent.value,
                moved_fit.tokens_opt.exponent.value - fit.tokens_opt.exponent.value,
            )
        )
    return np.array(shifts).reshape(-1, 2)


def _with_shifts(power: PowerFit, shifts: np.ndarray, confidence: float) -> Interval:
    """Return the exponent's interval from the scatter of its profiles and of the law.

    The two scatters are independent.
    """
    draws = power.draws[:, 1]
    if len(shifts):
        draws = draws + np.resize(shifts, len(draws))
    return interval(power.exponent.value, draws, confidence)
