"""Says which runs of a plan are the same run, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from scaling.errors import UserError

# Lists whose repeated entries repeat runs.
LISTS = ("budgets", "tokens", "unique_tokens", "seeds")


def refuse(config: ConfigDict, runs: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Raises UserError where two planned runs have one id, saying what is repeated.

    `wanted` holds what the plan set for each of `runs` (see `kinds.Wanted`).
    """
    first: dict[str, int] = {}
    pairs = [
        (first[run.run_id], i) for i, run in enumerate(runs) if first.setdefault(run.run_id, i) != i
    ]
    if not pairs:
        return
    one, other = pairs[0]
    raise UserError(
        f"config.sweep: {len(pairs)} of {len(runs)} runs are duplicates, first {runs[one].run_id}: "
        f"{_why(config, wanted[one], wanted[other])}"
    )


def _why(config: ConfigDict, one, other) -> str:
    differing = [k for k in one.values if one.values[k] != other.values.get(k)]
    if differing:
        said = ", ".join(f"{k} ({one.values[k]!r}, {other.values[k]!r})" for k in differing)
        return f"two of it differ only in {said}, which cannot change its numbers"
    if one.budget != other.budget:
        return (
            f"config.sweep.budgets {one.budget:g} and {other.budget:g} pay for the same number of "
            "steps; space them wider"
        )
    for key in LISTS:
        values = config.sweep[key]
        again = [v for i, v in enumerate(values) if v in values[:i]]
        if again:
            return f"config.sweep.{key} repeats {again[0]!r}"
    return "its values are repeated on an axis of the sweep; remove the repetition"
