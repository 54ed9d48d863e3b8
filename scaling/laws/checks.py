"""Check a table before a fit: raise or warn about rows, and name the fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scaling.laws.forms.base import Form
from scaling.laws.table import CannotFit, Table
from scaling.utils import notices
from scaling.utils.notices import Notice

GAP = np.log(300.0)  # a larger gap between neighbours in a sorted column suggests two units
# Least scatter of one log input about a straight line in the other that tells the two apart.
APART = 0.05
DIGITS = 9  # decimals of the log of an input; values that agree in them are equal
MIN_BLOCKS = 3  # of two blocks, half of the resamples draw one block twice
FEW_BLOCKS = 5  # fewer blocks give no trustworthy interval
LEAST_FREEDOM = 2  # with one degree of freedom, 90% intervals hold the truth in 60 to 70%
OFF = np.log(8.0)  # C / (6 N D) further from its median suggests another unit


def odd_rows(table: Table, seeds: Sequence[str] = ()) -> list[Notice]:
    """Return notices on kept rows: duplicates, mixed units, tokens that do not fit the compute.

    `seeds` tell rows apart that are equal otherwise.
    """
    return [*_duplicates(table, seeds), *_mixed_units(table), *_inconsistent_compute(table)]


def _duplicates(table: Table, seeds: Sequence[str]) -> list[Notice]:
    """Return a notice on rows equal in every column: a run entered twice, not another seed."""
    columns = [v for k, v in table.columns.items() if k != "budget"]
    if len(seeds):
        columns.append(np.unique(seeds, return_inverse=True)[1])
    rows = np.stack(columns, axis=1)
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    repeated = [i for i in range(len(table)) if first[inverse.reshape(-1)[i]] != i]
    if not repeated:
        return []
    pairs = ", ".join(
        f"{table.names[i]} = {table.names[first[inverse.reshape(-1)[i]]]}" for i in repeated[:5]
    )
    text = (
        f"{len(repeated)} row(s) repeat another row ({pairs}) and count twice; remove them "
        "unless they are different runs"
    )
    return [Notice(notices.DUPLICATE_ROWS, text)]


def _mixed_units(table: Table) -> list[Notice]:
    """Return a notice on each column with a jump as between two units."""
    warnings = []
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
            warnings.append(
                Notice(
                    notices.MIXED_UNITS,
                    f"column {name} jumps by a factor of {np.exp(gaps.max()):.3g} between "
                    f"neighbours: mixed units? look at {rows}",
                )
            )
    return warnings


def _inconsistent_compute(table: Table) -> list[Notice]:
    """Return notices on rows whose FLOPs do not fit 6 n_params tokens."""
    if not {"n_params", "tokens", "flops"} <= set(table.columns):
        return []
    ratio = np.log(table.flops / (6 * table.n_params * table.tokens))
    middle = float(np.median(ratio))
    odd = np.flatnonzero(np.abs(ratio - middle) > OFF)
    warnings = []
    if len(odd):
        rows = ", ".join(table.names[i] for i in odd[:6])
        warnings.append(
            Notice(
                notices.MIXED_UNITS,
                f"flops / (6 n_params tokens) is {np.exp(middle):.3g} in most rows and more than "
                f"{np.exp(OFF):.0f} times larger or smaller in {len(odd)} ({rows}): mixed units?",
            )
        )
    return warnings


def require_blocks(table: Table, column: str) -> int:
    """Return the number of blocks in a column. Raises CannotFit if they are too few to resample."""
    blocks = len(np.unique(table[column]))
    if blocks < MIN_BLOCKS:
        raise CannotFit(
            f"blocks: column {column} has {blocks} distinct value(s), too few to resample; use a "
            f"column with at least {MIN_BLOCKS}, or leave --blocks out"
        )
    return blocks


def require_spread(table: Table, form: Form, n_free: int) -> None:
    """Raise CannotFit if rows, distinct inputs or budgets are too few for `n_free` parameters."""
    if len(table) <= n_free:
        raise CannotFit(
            f"{form.name}: {len(table)} usable rows for {n_free} parameters; add runs (at least "
            f"{n_free + 1})"
        )
    points = distinct_points(table, form)
    if points < n_free:
        raise CannotFit(
            f"{form.name}: {points} different combinations of {' and '.join(form.inputs)} for "
            f"{n_free} parameters; seeds of the same runs add none, so add other runs"
        )
    for name in form.inputs:
        distinct = _distinct(np.log(table[name]))
        if distinct < form.distinct:
            raise CannotFit(
                f"{form.name}: column {name} has {distinct} distinct value(s); vary it over at "
                f"least {form.distinct}"
            )
    if form.product:
        require_apart({name: table[name] for name in form.inputs}, form.name)
    if {"n_params", "tokens"} <= set(form.inputs):
        product = np.log(table.n_params * table.tokens)
        if np.ptp(product) < 0.1:
            raise CannotFit(
                f"{form.name}: every row has the same compute (n_params times tokens within 10%); "
                "add runs at another budget"
            )


def scale(table: Table, form: Form) -> np.ndarray:
    """Return `[N]` costs of the rows: FLOPs if known, else size times data, else x."""
    if "flops" in table:
        return table.flops
    if {"n_params", "tokens"} <= set(form.inputs):
        return table.n_params * table.tokens
    return table[form.inputs[0]]


def lateness(table: Table, form: Form, late: float) -> np.ndarray:
    """Return `[N]` weights (scale / largest scale)^late, which are 1 at the dearest row."""
    scale_N = scale(table, form)
    return (scale_N / scale_N.max()) ** late


def require_apart(columns: Mapping[str, np.ndarray], law_name: str) -> None:
    """Raise CannotFit if two inputs of a power product are collinear in their logs.

    The rows then determine one exponent only. `law_name` names the law in the message.
    """
    if len(columns) < 2:
        return
    (first, x), (second, y) = ((name, np.log(values)) for name, values in columns.items())
    slope, offset = np.polyfit(x, y, 1)
    if np.std(y - slope * x - offset) < APART:
        raise CannotFit(
            f"{law_name}: {second} goes as {first}^{slope:.2g} in every row, so the two exponents "
            "cannot be told apart; add runs of another ratio, or fit a law of one: "
            f"--of={first}, {second} or flops"
        )


def few_degrees(freedom: int, counted: str) -> list[Notice]:
    """Return a notice on a fit with no degree of freedom, or one; `counted` says of what."""
    if freedom < 1:
        text = f"{counted}: the rows cannot show how well they are identified; add runs"
        return [Notice(notices.NO_DEGREES_OF_FREEDOM, text)]
    if freedom < LEAST_FREEDOM:
        text = f"{counted} leave {freedom} degree of freedom: intervals may be too narrow; add runs"
        return [Notice(notices.FEW_DEGREES_OF_FREEDOM, text)]
    return []


def distinct_points(table: Table, form: Form) -> int:
    """Return the number of distinct inputs of the rows, to 9 decimals of their logs."""
    return _distinct(np.stack([np.log(table[name]) for name in form.inputs], axis=1))


def _distinct(logs: np.ndarray) -> int:
    """Return the number of rows of logs that differ by more than rounding.

    Equal token counts computed as C / (6 N) may differ in their last bits.
    """
    return len(np.unique(np.round(logs, DIGITS), axis=0))


def input_warnings(
    table: Table, form: Form, n_free: int | None = None, n_blocks: int | None = None
) -> list[Notice]:
    """Return the table's warnings, and those on inputs that do not separate the form's terms.

    `n_free` parameters are fitted (all of the form by default), to `n_blocks` blocks of rows.
    """
    n_free = len(form.parameters) if n_free is None else n_free
    warnings = list(table.warnings)
    points = distinct_points(table, form)
    if n_free > 1:
        freedom = min(len(table), points) - n_free
        warnings += few_degrees(freedom, f"{points} different inputs for {n_free} parameters")
    if n_blocks is not None and n_blocks < FEW_BLOCKS:
        text = (
            f"intervals rest on {n_blocks} blocks, less than {FEW_BLOCKS}: they may be too narrow"
        )
        warnings.append(Notice(notices.FEW_DEGREES_OF_FREEDOM, text))
    if {"n_params", "tokens"} <= set(form.inputs):
        log_n, log_d = np.log(table.n_params), np.log(table.tokens)
        if np.ptp(log_d - log_n) < 0.1:
            warnings.append(
                Notice(
                    notices.COLLINEAR_INPUTS,
                    "tokens / n_params is the same in every row: the terms of size and of data "
                    "cannot be told apart; add runs of another ratio",
                )
            )
        if "flops" in table:
            decades = np.log10(table.flops.max() / table.flops.min())
            if decades < 1:
                text = f"the rows span {decades:.2f} decades of compute, less than 1"
                warnings.append(Notice(notices.NARROW_COMPUTE, text))
    return warnings
