"""Compare two answers from one table: the exponent of N* from IsoFLOP minima and from L(N, D)."""

from __future__ import annotations

import numpy as np

from scaling.laws.bootstrap import Interval
from scaling.laws.isoflop import IsoflopFit, fit_isoflop
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

LEAST = 0.02  # difference of exponents that matters: N* moves by 15% over three decades
OTHER_PRICE = 0.02  # exponent of N in C / (N D) from which the law's closed form does not hold


def contradiction(profiles: IsoflopFit, a: Interval, table: Table) -> list[Notice]:
    """Return a notice if the intervals of both exponents are apart.

    `a` is beta / (alpha + beta) of L(N, D). No notice if C is not k N D in the rows, since the two
    then answer different questions.
    """
    if not comparable(table) or not np.isfinite(a.se):
        return []
    of_minima = profiles.n_opt.exponent
    gap = max(of_minima.low - a.high, a.low - of_minima.high)
    if not gap > 0 or abs(of_minima.value - a.value) < LEAST:
        return []
    text = (
        f"two answers from these rows contradict each other: N* grows as C^{of_minima.brief()} by "
        f"the IsoFLOP minima and as C^{a.brief()} by L(N, D); fit rows near the minima, or compare "
        "--method=akima and --form=varpro"
    )
    return [Notice(notices.CONTRADICTION, text)]


def of_law(table: Table, a: Interval, bootstrap: int, confidence: float) -> list[Notice]:
    """Return `contradiction` of an exponent of L(N, D) with the minima of the table's budgets."""
    if not comparable(table) or not np.isfinite(a.se):
        return []
    try:
        profiles = fit_isoflop(table, bootstrap=bootstrap, confidence=confidence)
    except CannotFit:
        return []
    return contradiction(profiles, a, table)


def comparable(table: Table) -> bool:
    """Return whether the table has IsoFLOP budgets whose compute is k N D."""
    inside = table.budget > 0
    if not {"n_params", "tokens"} <= set(table.columns) or len(np.unique(table.budget[inside])) < 3:
        return False
    log_n = np.log(table.n_params[inside])
    if np.ptp(log_n) < 0.1:
        return False
    compute = table.flops if "flops" in table else table.budget
    price = np.log(compute / (table.n_params * table.tokens))[inside]
    return bool(abs(np.polyfit(log_n, price, 1)[0]) < OTHER_PRICE)
