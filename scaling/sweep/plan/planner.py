"""Turn a study's config into its list of runs, a pure function.

Only the kind `design` reads a file. Runs are built as flat dicts and checked as whole configs. The
ConfigDict of a run is created on first use, so that ten thousand runs are planned in seconds.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.config.flat_dict import flatten, view
from scaling.sweep.plan import duplicates, halving, kinds
from scaling.sweep.plan.kinds import KINDS
from scaling.sweep.plan.ladder import Rung
from scaling.sweep.plan.request import RunRequest
from scaling.sweep.plan.run_recipe import RunRecipe
from scaling.utils import signals
from scaling.utils.errors import UserError, shown

MAX_RUNS = 100_000  # of a plan, which takes half a minute


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: its whole config and what it costs."""

    values: Mapping[str, Any] = field(repr=False, hash=False)  # the checked config, flat
    run_id: str  # names its folder, see scaling/config/hashing.py
    budget: float  # requested FLOPs; 0 if the plan requests tokens
    n_params: int
    tokens: int
    steps: int
    flops: float  # by the "exact" convention
    note: str = ""  # the difference between the run and its request
    round: int = 0  # the growth of the sweep that added it, 0 for its first runs

    @functools.cached_property
    def config(self) -> ConfigDict:
        """The whole config, locked; created on first use."""
        return config_lib.from_flat(self.values)


def plan(config: ConfigDict) -> list[PlannedRun]:
    """Return the runs of `config.sweep.kind`, each with all `config.sweep.seeds`, small to large.

    Raises UserError naming the key if the plan is empty, holds a run twice, or an impossible run.
    """
    if config.sweep.kind not in KINDS:
        raise UserError(
            f"config.sweep.kind={config.sweep.kind!r} is no sweep; choose one of {', '.join(KINDS)}"
        )
    if not config.sweep.seeds:
        raise UserError("config.sweep.seeds is empty; give at least one seed")
    flat = flatten(config)
    every = _with_seeds(KINDS[config.sweep.kind](config), config.sweep.seeds)
    requests = list(itertools.islice(every, MAX_RUNS + 1))
    if len(requests) > MAX_RUNS:
        raise UserError(f"config.sweep: a plan has at most {MAX_RUNS:,} runs; plan less at once")
    recipe, runs = RunRecipe(config), []
    for run_request in requests:
        signals.check()
        runs.append(_plan_of_sweep(flat, run_request, recipe))
    if not runs:
        raise UserError("config.sweep: the plan has no runs; give it budgets, tokens or values")
    duplicates.refuse(config, runs, requests)
    halving.check(config, runs)
    return sorted(runs, key=lambda r: (r.n_params, r.flops))


def plan_run(run: ConfigDict, budget: float = 0.0) -> PlannedRun:
    """Return a planned run with its cost; its sweep kind becomes "none", as in every run."""
    return _plan_run(flatten(run), RunRequest({}, budget))


def at_budget(config: ConfigDict, rung: Rung, budget: float) -> PlannedRun:
    """Return the run of one size whose training costs at most `budget` FLOPs."""
    recipe = RunRecipe(config)
    return _plan_run(flatten(config), kinds.at_budget(config, rung, budget, recipe), recipe)


def _with_seeds(requests: Iterable[RunRequest], seeds: tuple[int, ...]) -> Iterable[RunRequest]:
    """Yield each request with each seed; copies of a request take further seeds."""
    span = int(max(seeds) - min(seeds)) + 1
    for run_request in requests:
        if "seed" in run_request.values:
            yield run_request
            continue
        for seed in seeds:
            yield run_request.with_seed(int(seed) + run_request.copy * span)


def _plan_of_sweep(
    flat: Mapping[str, Any], run_request: RunRequest, recipe: RunRecipe
) -> PlannedRun:
    """Plan a run; errors name it by the values that the sweep sets, and name its recipe."""
    try:
        return _plan_run(flat, run_request, recipe)
    except UserError as error:
        values = ", ".join(f"{key}={shown(value, 40)}" for key, value in run_request.values.items())
        values += f" by recipe {recipe.recipe.name}" if recipe.recipe else ""
        raise UserError(f"config.sweep: the run with {values}: {error}") from error


def _plan_run(
    flat: Mapping[str, Any], run_request: RunRequest, recipe: RunRecipe | None = None
) -> PlannedRun:
    changes = {**run_request.values, **(recipe.values(run_request) if recipe else {})}
    values = config_lib.replaced(flat, {**changes, "sweep.kind": "none"})
    c = view(values)
    steps = config_lib.schedule_steps(c)["total"]
    tokens = steps * config_lib.tokens_per_step(c)
    n_params, flops_per_token = _cost(accounting.shape_of(c))
    return PlannedRun(
        values=values,
        run_id=hashing.run_id(values),
        budget=float(run_request.budget),
        n_params=n_params,
        tokens=tokens,
        steps=steps,
        flops=float(flops_per_token * tokens),
        note=run_request.note,
    )


@functools.lru_cache(maxsize=4096)
def _cost(shape: accounting.Shape) -> tuple[int, int]:
    """Return (parameters without embeddings and head, exact training FLOPs per token)."""
    return accounting.param_counts(shape)["n_params"], accounting.flops_per_token(shape, "exact")
