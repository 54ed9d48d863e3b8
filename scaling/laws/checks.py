"""Check a table before it is fitted: refusals and warnings, each with its fix."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scaling.laws.forms.base import Form
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

GAP = np.log(300.0)  # neighbours in a sorted column further apart than this look like two units
APART = (
    0.05  # scatter of log tokens about a straight line in log n_params, below which they are one
)
DIGITS = 9  # of the log of an input, after which two values are one
MIN_BLOCKS = 3  # two are drawn alike in half of the resamples
OFF = np.log(8.0)  # C / (6 N D) further from its median than this looks like another unit


def odd_rows(table: Table) -> list[Notice]:
    """Return notices on kept rows: duplicates, mixed units, tokens that do not fit the compute."""
    return [*_duplicates(table), *_mixed_units(table), *_inconsistent_compute(table)]


def _duplicates(table: Table) -> list[Notice]:
    """Rows equal in every column: one run entered twice. Equal inputs alone are seeds."""
    whole = np.stack([v for k, v in table.columns.items() if k != "budget"], axis=1)
    _, first, inverse = np.unique(whole, axis=0, return_index=True, return_inverse=True)
    again = [i for i in range(len(table)) if first[inverse.reshape(-1)[i]] != i]
    if not again:
        return []
    pairs = ", ".join(
        f"{table.names[i]} = {table.names[first[inverse.reshape(-1)[i]]]}" for i in again[:5]
    )
    text = (
        f"{len(again)} row(s) repeat another one ({pairs}); they count twice, remove them unless "
        "they are different runs"
    )
    return [Notice(notices.DUPLICATE_ROWS, text)]


def _mixed_units(table: Table) -> list[Notice]:
    found = []
    for name in ("n_params", "tokens", "unique_tokens", "loss"):
        if name not in table.columns:
            continue
        order = np.argsort(table.columns[name])
        log = np.log(table.columns[name][order])
        gaps = np.diff(log)
        limit = np.log(4.0) if name == "loss" else GAP
        if len(gaps) and gaps.max() > limit:
            cut = int(gaps.argmax())
            fewer = order[: cut + 1] if cut + 1 <= len(log) / 2 else order[cut + 1 :]
            rows = ", ".join(table.names[i] for i in sorted(fewer)[:6])
            found.append(
                Notice(
                    notices.MIXED_UNITS,
                    f"column {name} jumps by {np.exp(gaps.max()):.3g} times between neighbours: "
                    f"mixed units? look at {rows}",
                )
            )
    return found


def _inconsistent_compute(table: Table) -> list[Notice]:
    if not {"n_params", "tokens", "flops"} <= set(table.columns):
        return []
    ratio = np.log(table.flops / (6 * table.n_params * table.tokens))
    middle = float(np.median(ratio))
    away = np.flatnonzero(np.abs(ratio - middle) > OFF)
    found = []
    if len(away):
        rows = ", ".join(table.names[i] for i in away[:6])
        found.append(
            Notice(
                notices.MIXED_UNITS,
                f"flops / (6 n_params tokens) is {np.exp(middle):.3g} in most rows and more than "
                f"{np.exp(OFF):.0f} times off in {len(away)} ({rows}): mixed units?",
            )
        )
    if abs(middle) > np.log(30.0):
        found.append(
            Notice(
                notices.UNUSUAL_UNITS,
                f"flops / (6 n_params tokens) is {np.exp(middle):.3g}: the columns are in "
                "different "
                "units (e.g. tokens in billions); exponents stand, coefficients and N*, D* are in "
                "these units",
            )
        )
    return found


def require_blocks(table: Table, column: str) -> int:
    """How many blocks a column makes. Raises CannotFit where they are too few to resample."""
    blocks = len(np.unique(table[column]))
    if blocks < MIN_BLOCKS:
        raise CannotFit(
            f"blocks: column {column} has {blocks} distinct value(s), whose resamples tell no "
            "scatter; needs at "
            f"least {MIN_BLOCKS}, or leave --blocks out"
        )
    return blocks


def require_spread(table: Table, form: Form, n_free: int) -> None:
    """Raises CannotFit where rows, distinct inputs or budgets are too few for `n_free` numbers."""
    if len(table) <= n_free:
        raise CannotFit(
            f"{form.name}: {len(table)} usable rows for {n_free} parameters; add runs (at least "
            f"{n_free + 1})"
        )
    points = distinct_points(table, form)
    if points < n_free:
        raise CannotFit(
            f"{form.name}: {points} different combinations of {' and '.join(form.inputs)} for "
            f"{n_free} "
            "parameters; seeds of the same runs do not add any, add other runs"
        )
    for name in form.inputs:
        distinct = _distinct(np.log(table[name]))
        if distinct < form.distinct:
            raise CannotFit(
                f"{form.name}: column {name} has {distinct} distinct value(s); vary it over at "
                "least "
                f"{form.distinct}"
            )
    if form.product:
        require_apart({name: table[name] for name in form.inputs}, form.name)
    if {"n_params", "tokens"} <= set(form.inputs):
        product = np.log(table.n_params * table.tokens)
        if np.ptp(product) < 0.1:
            raise CannotFit(
                f"{form.name}: every row has the same compute (n_params times tokens within 10%); "
                "add "
                "runs at another budget"
            )


def scale(table: Table, form: Form) -> np.ndarray:
    """`[N]` what makes a row dear: FLOPs where they are known, else size times data, else x."""
    if "flops" in table:
        return table.flops
    if {"n_params", "tokens"} <= set(form.inputs):
        return table.n_params * table.tokens
    return table[form.inputs[0]]


def lateness(table: Table, form: Form, late: float) -> np.ndarray:
    """`[N]` weights (scale / largest scale)^late: 1 at the dearest row."""
    scale_N = scale(table, form)
    return (scale_N / scale_N.max()) ** late


def require_apart(columns: Mapping[str, np.ndarray], what: str) -> None:
    """Raises CannotFit where two inputs of a power product move together, so that only one exponent
    shows.
    """
    if len(columns) < 2:
        return
    (first, x), (second, y) = ((name, np.log(values)) for name, values in columns.items())
    slope, offset = np.polyfit(x, y, 1)
    if np.std(y - slope * x - offset) < APART:
        raise CannotFit(
            f"{what}: {second} goes as {first}^{slope:.2g} in every row, so the two exponents "
            "cannot be "
            f"told apart; add runs of another ratio, or ask for a law of one: --of={first}, "
            f"{second} or "
            "flops"
        )


def distinct_points(table: Table, form: Form) -> int:
    """How many different inputs the rows have, to 9 digits of their logs."""
    return _distinct(np.stack([np.log(table[name]) for name in form.inputs], axis=1))


def _distinct(logs: np.ndarray) -> int:
    """Return how many rows of logs differ by more than rounding.

    Tokens computed as C / (6 N) differ in their last bits where they are one number.
    """
    return len(np.unique(np.round(logs, DIGITS), axis=0))


def input_warnings(table: Table, form: Form) -> list[Notice]:
    """Warnings on a design that cannot tell the form's terms apart."""
    found = list(table.warnings)
    if distinct_points(table, form) == len(form.parameters) > 1:
        found.append(
            Notice(
                notices.NO_DEGREES_OF_FREEDOM,
                "as many different inputs as parameters: how well they are identified cannot be "
                "seen; add runs",
            )
        )
    if {"n_params", "tokens"} <= set(form.inputs):
        log_n, log_d = np.log(table.n_params), np.log(table.tokens)
        if np.ptp(log_d - log_n) < 0.1:
            found.append(
                Notice(
                    notices.COLLINEAR_INPUTS,
                    "tokens / n_params is the same in every row: the terms of size and of data are "
                    "not identified apart; add runs of another ratio",
                )
            )
        if "flops" in table:
            decades = np.log10(table.flops.max() / table.flops.min())
            if decades < 1:
                text = f"the rows span {decades:.2f} decades of compute, less than 1"
                found.append(Notice(notices.NARROW_COMPUTE, text))
    return found
