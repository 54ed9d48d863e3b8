"""Says which runs of a plan are the same run, and what is repeated to make them so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from scaling.config import hashing
from scaling.sweep.plan.request import RunRequest
from scaling.utils.errors import UserError

# Lists of the section sweep whose repeated entries repeat runs, by kind.
LISTS = {
    "compute": ("budgets",),
    "data": ("tokens", "unique_tokens"),
    "ladder": ("tokens", "tokens_per_param"),
    "hyper": ("tokens", "tokens_per_param", "lr_values", "lr_factors", "batch_sizes"),
}


def refuse(config: ConfigDict, runs: Sequence, wanted: Sequence[RunRequest]) -> None:
    """Raises UserError where two of the `runs` (PlannedRun) are the same, saying what is repeated.

    `wanted` holds what the plan set in each of them.
    """
    pairs = [*_pairs([r.run_id for r in runs]), *_same_steps(runs)]
    if pairs:
        one, other = pairs[0]
        raise UserError(
            f"config.sweep: {len(pairs)} of {len(runs)} runs are duplicates, first "
            f"{runs[one].run_id}: {_why(config, wanted[one], wanted[other], runs[one].steps)}"
        )


def _pairs(names: Sequence) -> Iterator[tuple[int, int]]:
    """(first index of a name, index of each of its repetitions)."""
    first: dict = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            yield first[name], i


def _same_steps(runs: Sequence) -> Iterator[tuple[int, int]]:
    """Pairs that differ in tokens, but not in the steps that these are rounded to."""
    asked: dict[tuple[int, int], dict[int, list[int]]] = {}
    for i, r in enumerate(runs):
        of_size = asked.setdefault((r.n_params, r.tokens), {})
        of_size.setdefault(r.values["train.tokens"], []).append(i)
    for lengths in asked.values():
        if len(lengths) > 1:
            among = sorted(i for group in lengths.values() for i in group)
            hashes = [hashing.run_hash({**runs[i].values, "train.tokens": 0}) for i in among]
            for one, other in _pairs(hashes):
                a, b = among[one], among[other]
                if runs[a].run_id != runs[b].run_id:
                    yield a, b


def _why(config: ConfigDict, one: RunRequest, other: RunRequest, steps: int) -> str:
    if one.budget != other.budget:
        return (
            f"budgets {one.budget:g} and {other.budget:g} pay for the same {steps} steps; space "
            "config.sweep.budgets wider"
        )
    differing = [k for k in one.values if one.values[k] != other.values.get(k)]
    if differing == ["train.tokens"]:
        lengths = [w.values["train.tokens"] for w in (one, other)]
        return f"{lengths[0]} and {lengths[1]} tokens are the same {steps} steps"
    if differing:
        said = ", ".join(f"{k} ({one.values[k]!r}, {other.values[k]!r})" for k in differing)
        return f"two of it differ only in {said}, which cannot change its numbers"
    for key in (*LISTS.get(config.sweep.kind, ()), "seeds"):
        values = config.sweep[key]
        again = [v for i, v in enumerate(values) if v in values[:i]]
        if again:
            return f"config.sweep.{key} repeats {again[0]!r}"
    return f"{', '.join(f'{k}={v!r}' for k, v in one.values.items())} is repeated"
