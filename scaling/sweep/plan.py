"""Plans: pure functions from a study's config to its list of runs. Nothing here trains or reads files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from ml_collections import ConfigDict

from scaling import accounting
from scaling import config as config_lib
from scaling.errors import UserError
from scaling.sweep.ladder import Rung, ladder, learning_rate


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan: its whole config and what it costs."""

    config: ConfigDict
    budget: float  # FLOPs asked for; 0 where the plan asks for tokens
    n_params: int
    tokens: int
    steps: int
    flops: float  # by the "exact" convention


def plan(config: ConfigDict) -> list[PlannedRun]:
    """The runs of `config.sweep.kind`, without duplicates, small before large.

    Raises UserError naming the key where the plan is empty, or a run of it impossible.
    """
    if config.sweep.kind not in KINDS:
        raise UserError(
            f"config.sweep.kind={config.sweep.kind!r} is no sweep; choose one of {', '.join(KINDS)}"
        )
    if not config.sweep.seeds:
        raise UserError("config.sweep.seeds is empty; give at least one seed")
    runs = [
        planned(config_lib.with_values(run, {"seed": int(seed)}), budget)
        for run, budget in KINDS[config.sweep.kind](config)
        for seed in (config.sweep.seeds if "seed" not in config.sweep.grid_keys else (run.seed,))
    ]
    distinct = {config_lib.run_hash(run.config): run for run in runs}
    if len(distinct) < len(runs):
        raise UserError(
            f"config.sweep: {len(runs) - len(distinct)} of {len(runs)} runs are duplicates; "
            "remove repeated budgets, values or seeds"
        )
    if not runs:
        raise UserError("config.sweep: the plan has no runs; give budgets, tokens or values")
    return sorted(runs, key=lambda r: (r.n_params, r.flops))


def planned(run: ConfigDict, budget: float = 0.0) -> PlannedRun:
    """A planned run with its cost; the sweep section is reset, so that a run knows no sweep."""
    run = config_lib.with_values(run, {"sweep.kind": "none"})
    shape, steps = accounting.shape_of(run), config_lib.schedule_steps(run)["total"]
    tokens = steps * config_lib.tokens_per_step(run)
    return PlannedRun(
        config=run,
        budget=float(budget),
        n_params=accounting.param_counts(shape)["n_params"],
        tokens=tokens,
        steps=steps,
        flops=float(accounting.flops_per_token(shape, "exact") * tokens),
    )


def sized(config: ConfigDict, rung: Rung) -> ConfigDict:
    """`config` at the size of a rung, with the learning rate that the study's rule gives it."""
    return config_lib.with_values(
        config, {**rung.values(), "optim.lr": learning_rate(config, rung.n_params)}
    )


def at_budget(config: ConfigDict, rung: Rung, budget: float) -> PlannedRun:
    """The run of one size whose training costs at most `budget` FLOPs."""
    run = sized(config_lib.with_values(config, {"sweep.kind": "none"}), rung)
    tokens = accounting.tokens_for_budget(
        accounting.shape_of(run), budget, config_lib.tokens_per_step(run), config.sweep.flops
    )
    return planned(config_lib.with_values(run, {"train.tokens": tokens}), budget)


def _compute(config: ConfigDict):
    """IsoFLOP (Hoffmann et al. 2022, approach 2): at each budget consecutive rungs around a guess."""
    s, rungs = config.sweep, ladder(config)
    if len(rungs) < s.sizes_per_budget:
        raise UserError(
            f"config.sweep.sizes_per_budget={s.sizes_per_budget}: the ladder has only {len(rungs)} "
            "distinct rungs; raise config.sweep.rungs"
        )
    for budget in s.budgets:
        if not budget > 0:
            raise UserError(f"config.sweep.budgets: {budget!r} should be positive")
        guess = s.optimum_guess * (budget / 1e12) ** s.optimum_exponent
        centre = min(range(len(rungs)), key=lambda i: abs(math.log(rungs[i].n_params / guess)))
        first = min(max(0, centre - (s.sizes_per_budget - 1) // 2), len(rungs) - s.sizes_per_budget)
        for rung in rungs[first : first + s.sizes_per_budget]:
            yield at_budget(config, rung, budget).config, budget


def _params(config: ConfigDict):
    """L(N): every rung of the ladder at one length, config.sweep.tokens."""
    if len(config.sweep.tokens) != 1:
        raise UserError(
            f"config.sweep.tokens={config.sweep.tokens}: a params sweep has one run length"
        )
    for rung in ladder(config):
        run = sized(config, rung)
        yield config_lib.with_values(run, {"train.tokens": int(config.sweep.tokens[0])}), 0.0


def _data(config: ConfigDict):
    """L(D): one size, config.model, at every length of config.sweep.tokens."""
    for tokens in config.sweep.tokens:
        yield config_lib.with_values(config, {"train.tokens": int(tokens)}), 0.0


def _grid(config: ConfigDict):
    """The product of config.sweep.grid_values over config.sweep.grid_keys."""
    keys = config.sweep.grid_keys
    for values in itertools.product(*config.sweep.grid_values):
        yield config_lib.with_values(config, dict(zip(keys, values, strict=True))), 0.0


KINDS: dict[str, Callable] = {
    "compute": _compute,
    "params": _params,
    "data": _data,
    "grid": _grid,
}
