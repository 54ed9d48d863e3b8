"""Refuse plans that hold a run twice, and name the repeated config value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from scaling.config import hashing
from scaling.sweep.plan.request import RunRequest
from scaling.utils.errors import UserError

# Lists of config.sweep whose repeated entries repeat runs, by kind of sweep.
LISTS = {
    "compute": ("budgets",),
    "data": ("tokens", "unique_tokens"),
    "ladder": ("tokens", "tokens_per_param"),
    "hyper": ("tokens", "tokens_per_param", "lr_values", "lr_factors", "batch_sizes"),
}


def refuse(config: ConfigDict, runs: Sequence, requests: Sequence[RunRequest]) -> None:
    """Check that no two `runs` (PlannedRun) are the same. Raises UserError naming the repetition.

    `requests` holds the request of each run.
    """
    pairs = [*_pairs([r.run_id for r in runs]), *_same_steps(runs)]
    if pairs:
        one, other = pairs[0]
        raise UserError(
            f"config.sweep: {len(pairs)} of {len(runs)} runs are duplicates, first "
            f"{runs[one].run_id}: "
            + _reason(config, requests[one], requests[other], runs[one].steps)
        )


def _pairs(names: Sequence) -> Iterator[tuple[int, int]]:
    """Yield (first index of a name, index of a repetition) for every repetition."""
    first: dict = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            yield first[name], i


def _same_steps(runs: Sequence) -> Iterator[tuple[int, int]]:
    """Yield pairs of runs that differ in tokens, but round to the same steps."""
    requested: dict[tuple[int, int], dict[int, list[int]]] = {}
    for i, r in enumerate(runs):
        lengths = requested.setdefault((r.n_params, r.tokens), {})
        lengths.setdefault(r.values["train.tokens"], []).append(i)
    for lengths in requested.values():
        if len(lengths) > 1:
            candidates = sorted(i for group in lengths.values() for i in group)
            hashes = [hashing.run_hash({**runs[i].values, "train.tokens": 0}) for i in candidates]
            for one, other in _pairs(hashes):
                a, b = candidates[one], candidates[other]
                if runs[a].run_id != runs[b].run_id:
                    yield a, b


def _reason(config: ConfigDict, one: RunRequest, other: RunRequest, steps: int) -> str:
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
        differences = ", ".join(f"{k} ({one.values[k]!r}, {other.values[k]!r})" for k in differing)
        return f"it and its copy differ only in {differences}, which cannot change its numbers"
    for key in (*LISTS.get(config.sweep.kind, ()), "seeds"):
        values = config.sweep[key]
        repeats = [v for i, v in enumerate(values) if v in values[:i]]
        if repeats:
            return f"config.sweep.{key} repeats {repeats[0]!r}"
    return f"{', '.join(f'{k}={v!r}' for k, v in one.values.items())} is repeated"
