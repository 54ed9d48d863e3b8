"""One set of runs under several conventions of N and of FLOPs: how far the exponents of the optimum
move.

    N* ~ C^a,  D* ~ C^b

Kaplan et al. 2020 count neither embeddings nor the head, Hoffmann et al. 2022 every parameter; much
of 0.73 against 0.50 comes of it (Pearce & Song 2024; Porian et al. 2024). A convention prices
sizes, so it asks a question of its own: the best size *at equal compute of this convention*. Runs
planned under one convention have unequal compute under another. Before a profile is fitted, each
run of a group is therefore moved along its data, at its own size, to the mean log compute C0 of its
group:

    D' = D C0 / C,    L' = L + B (D'^-beta - D^-beta)

with B and beta of L(N, D) = E + A / N^alpha + B / D^beta, refitted in the convention's N. The term
of size cancels, so how loss depends on N is left to the measured profile; the intervals carry the
uncertainty of B and beta along. Where all groups agree in compute nothing is moved: under its own
convention a plan is fitted as ever.

To keep the planned groups' minima and only read their N and C in other units would keep the optimum
of the old prices: on Pearce & Song's law that gives 0.65 where minimising at equal non-embedding
compute gives 0.78 (`tests/laws/test_conventions.py` derives both).

L(N, D) itself knows no FLOPs: only the cost of its optimum does. Its a = beta / (alpha + beta)
holds where cost is k N D in the same N, so it has one line per convention of N.

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

SAME_COMPUTE = 0.05  # a group whose runs agree in log compute to this is a profile as it is
LAW_DRAWS = 100  # refits of L(N, D) that carry the uncertainty of B and beta into moved profiles
ISOFLOP, LAW = "isoflop", "L(N, D)"  # estimators
COST_OF_LAW = "k N D"
NOTHING = Interval(*(float("nan"),) * 4)


@dataclass(frozen=True)
class Case:
    """The runs under one pair of conventions."""

    label: str  # which runs, where several sets are compared; else ""
    n_params: str  # name of the convention of N
    flops: str  # and of C
    table: Table  # n_params and flops by these conventions; budget: the groups that were planned
    long_runs: Table  # the rows that L(N, D) is fitted to


@dataclass(frozen=True)
class Exponents:
    """One line of the comparison; a and b are NaN where `refused` says why."""

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
    """Exponents of every case by IsoFLOP profiles; `parametric`: also of L(N, D), per set of runs
    and N.

    `method` is that of `fit_isoflop`, `delta` the Huber threshold of L(N, D) (0: scaled to the
    residuals). A case that cannot be fitted keeps its line, with the reason. Raises CannotFit, with
    the first reason, where none can.
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
        found = laws[key]
        if isinstance(found, CannotFit):
            raise CannotFit(str(found))
        return found

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
    grouped = case.table.rows(case.table.budget > 0)
    compute_N, equal = group_compute(grouped)
    profiles = grouped.with_columns(budget=compute_N)
    notes: tuple[str, ...] = ()
    shifts = np.zeros((1, 2))
    if not equal:
        try:
            law = law_of(case)
        except CannotFit as error:
            raise CannotFit(
                f"isoflop: runs of a group differ in {case.flops} compute, and the law that would "
                "move "
                f"them to equal compute cannot be fitted ({error})"
            ) from None
        factor = np.exp(np.abs(np.log(compute_N / grouped.flops)).max())
        notes = (f"runs moved by up to {factor:.2g} times in tokens",)
        planned, profiles = (
            profiles,
            at_equal_compute(profiles, law.values["B"], law.values["beta"]),
        )
        fit = fit_isoflop(profiles, method=method, bootstrap=bootstrap, confidence=confidence)
        shifts = _law_shifts(fit, planned, law, method)
    else:
        fit = fit_isoflop(profiles, method=method, bootstrap=bootstrap, confidence=confidence)
    a, b = (
        _with_shifts(power, shifts[:, i], confidence)
        for i, power in enumerate((fit.n_opt, fit.tokens_opt))
    )
    good = sum(not p.problem for p in fit.profiles)
    return a, b, good, len(fit.profiles), (*notes, *map(str, fit.warnings))


def group_compute(table: Table) -> tuple[np.ndarray, bool]:
    """(`[N]` geometric mean of the FLOPs of every row's group, whether all groups agree in
    compute).
    """
    log_N = np.log(table.flops)
    mean_N, equal = np.zeros(len(table)), True
    for budget in np.unique(table.budget):
        group = table.budget == budget
        mean_N[group] = log_N[group].mean()
        equal = equal and bool(np.ptp(log_N[group]) <= SAME_COMPUTE)
    return np.exp(mean_N), equal


def at_equal_compute(table: Table, b: float, beta: float) -> Table:
    """The runs moved along their data to the compute `table.budget`, by the data term b / D^beta.

    Raises CannotFit where the term exceeds what a run measured.
    """
    tokens = table.tokens * table.budget / table.flops
    with np.errstate(over="ignore", invalid="ignore"):
        loss = table.loss + b * (tokens**-beta - table.tokens**-beta)
    if not (np.isfinite(loss) & (loss > 0)).all():
        raise CannotFit(
            f"isoflop: the law's data term, {b:.3g} / D^{beta:.3g}, moves a run to a loss below 0"
        )
    return table.with_columns(tokens=tokens, loss=loss, flops=table.budget)


def _law_shifts(fit: IsoflopFit, planned: Table, law: Fit, method: str) -> np.ndarray:
    """`[draws, 2]` by how much a and b move when the runs are moved by refits of the law."""
    shifts = []
    columns = [law.form.parameters.index(name) for name in ("B", "beta")]
    for b, beta in law.draws[:LAW_DRAWS, columns]:
        try:
            again = fit_isoflop(at_equal_compute(planned, b, beta), method=method, bootstrap=0)
        except CannotFit:
            shifts.append((np.nan, np.nan))
            continue
        shifts.append(
            (
                again.n_opt.exponent.value - fit.n_opt.exponent.value,
                again.tokens_opt.exponent.value - fit.tokens_opt.exponent.value,
            )
        )
    return np.array(shifts).reshape(-1, 2)


def _with_shifts(power: PowerFit, shifts: np.ndarray, confidence: float) -> Interval:
    """The exponent with the scatter of its profiles and, independent of it, of the law that moved
    them.
    """
    draws = power.draws[:, 1]
    if len(shifts):
        draws = draws + np.resize(shifts, len(draws))
    return interval(power.exponent.value, draws, confidence)
