"""Plans: pure functions from a study's config to its list of runs. Nothing here trains; the kind
`design` reads its rows from a file, the other kinds read nothing.

Runs are worked out on flat dicts, each checked as a whole config is; the ConfigDict of a run is made
when it is asked for, so that ten thousand runs are planned in seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.config.flat_dict import flatten, view
from scaling.sweep.plan import duplicates, halving, request
from scaling.sweep.plan.kinds import KINDS
from scaling.sweep.plan.ladder import Rung
from scaling.sweep.plan.request import RunRequest
from scaling.utils.errors import UserError


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: its whole config and what it costs."""

    values: Mapping[str, Any] = field(repr=False, hash=False)  # the checked config, flat
    run_id: str  # names its folder, see scaling/config/hashing.py
    budget: float  # FLOPs asked for; 0 where the plan asks for tokens
    n_params: int
    tokens: int
    steps: int
    flops: float  # by the "exact" convention
    note: str = ""  # what the plan could not do exactly as asked

    @functools.cached_property
    def config(self) -> ConfigDict:
        """The whole config, locked; made on first use."""
        return config_lib.from_flat(self.values)


def plan(config: ConfigDict) -> list[PlannedRun]:
    """The runs of `config.sweep.kind`, each with each of `config.sweep.seeds`, small before large.

    Raises UserError naming the key where the plan is empty, holds a run twice, or an impossible one.
    """
    if config.sweep.kind not in KINDS:
        raise UserError(
            f"config.sweep.kind={config.sweep.kind!r} is no sweep; choose one of {', '.join(KINDS)}"
        )
    if not config.sweep.seeds:
        raise UserError("config.sweep.seeds is empty; give at least one seed")
    flat = flatten(config)
    asked = list(_seeded(KINDS[config.sweep.kind](config), config.sweep.seeds))
    runs = [_in_sweep(flat, one) for one in asked]
    if not runs:
        raise UserError("config.sweep: the plan has no runs; give it budgets, tokens or values")
    duplicates.refuse(config, runs, asked)
    halving.check(config, runs)
    return sorted(runs, key=lambda r: (r.n_params, r.flops))


def plan_run(run: ConfigDict, budget: float = 0.0) -> PlannedRun:
    """A planned run with its cost; its sweep kind becomes "none", so that a run knows no sweep."""
    return _plan_run(flatten(run), RunRequest({}, budget))


def at_budget(config: ConfigDict, rung: Rung, budget: float) -> PlannedRun:
    """The run of one size whose training costs at most `budget` FLOPs."""
    return _plan_run(flatten(config), request.at_budget(config, rung, budget))


def _seeded(asked: Iterable[RunRequest], seeds: tuple[int, ...]) -> Iterable[RunRequest]:
    """Each run with each seed; the copies of a run that is wanted several times take further ones."""
    span = int(max(seeds) - min(seeds)) + 1
    for one in asked:
        if "seed" in one.values:
            yield one
            continue
        for seed in seeds:
            yield one.with_seed(int(seed) + one.copy * span)


def _in_sweep(flat: Mapping[str, Any], one: RunRequest) -> PlannedRun:
    """`_plan_run`, with errors that name the run by what the sweep sets in it."""
    try:
        return _plan_run(flat, one)
    except UserError as error:
        said = ", ".join(f"{key}={value!r}" for key, value in one.values.items())
        raise UserError(f"config.sweep: the run with {said}: {error}") from error


def _plan_run(flat: Mapping[str, Any], one: RunRequest) -> PlannedRun:
    values = config_lib.replaced(flat, {**one.values, "sweep.kind": "none"})
    c = view(values)
    steps = config_lib.schedule_steps(c)["total"]
    tokens = steps * config_lib.tokens_per_step(c)
    n_params, flops_per_token = _cost(accounting.shape_of(c))
    return PlannedRun(
        values=values,
        run_id=hashing.run_id(values),
        budget=float(one.budget),
        n_params=n_params,
        tokens=tokens,
        steps=steps,
        flops=float(flops_per_token * tokens),
        note=one.note,
    )


@functools.lru_cache(maxsize=4096)
def _cost(shape: accounting.Shape) -> tuple[int, int]:
    """(parameters without embeddings and head, exact training FLOPs per token)."""
    return accounting.param_counts(shape)["n_params"], accounting.flops_per_token(shape, "exact")
