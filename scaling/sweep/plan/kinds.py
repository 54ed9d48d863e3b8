"""Generate the runs of each kind of sweep as changes to the study's config.

compute  L(C), IsoFLOP: sizes around a guess at each budget
params   L(N): every rung of the ladder at one length
data     L(D): one size at every length, and with every amount of unique tokens
ladder   L(N, D): every rung at every length, for parametric fits
hyper    optimal rate and batch: on every rung, at every length, rates x batch sizes
grid     any keys: the product of axes, each of one key or of several zipped
random   any keys: seeded draw_runs from ranges
design   the rows of a CSV that `scaling design` wrote, each at the nearest size
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import load as config_lib
from scaling.sweep.plan import grid as axes
from scaling.sweep.plan.from_design import design_runs
from scaling.sweep.plan.ladder import Rung
from scaling.sweep.plan.ladder import ladder as rungs_of
from scaling.sweep.plan.random_search import draw_runs
from scaling.sweep.plan.request import RunRequest, lengths
from scaling.sweep.plan.run_recipe import RunRecipe
from scaling.utils.errors import UserError, shown

MAX_LENGTH_ERROR = 0.1  # hyper: largest relative difference of a rounded length from the request


def compute(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield IsoFLOP runs: at each budget, consecutive rungs around a guess of the optimum.

    Reference: Hoffmann et al. 2022, approach 2.
    """
    s, rungs, recipe = config.sweep, rungs_of(config), RunRecipe(config)
    extra = _extra_sizes(s)
    if len(rungs) < s.sizes_per_budget:
        raise UserError(
            f"config.sweep.sizes_per_budget={s.sizes_per_budget}: the ladder has only {len(rungs)} "
            "distinct rungs; raise config.sweep.rungs"
        )
    for budget in s.budgets:
        guess = _guess(s, budget)
        centre = min(range(len(rungs)), key=lambda i: abs(math.log(rungs[i].n_params / guess)))
        first = min(max(0, centre - (s.sizes_per_budget - 1) // 2), len(rungs) - s.sizes_per_budget)
        below, above = extra.get(budget, (0, 0))
        last = first + s.sizes_per_budget + above
        if below > first or last > len(rungs):
            side, fix = (
                (f"{below} rungs below", f"lower config.sweep.min_width={s.min_width}")
                if below > first
                else (f"{above} rungs above", f"raise config.sweep.rungs={s.rungs}")
            )
            raise UserError(
                f"config.sweep.extra_sizes: at {budget:g} FLOPs the ladder has no {side} the "
                f"planned sizes; {fix}"
            )
        for rung in rungs[first - below : last]:
            yield at_budget(config, rung, budget, recipe)


def _extra_sizes(s: ConfigDict) -> dict[float, tuple[int, int]]:
    """Return budget -> (rungs below, rungs above) of config.sweep.extra_sizes.

    Raises UserError naming an entry that is no budget of the sweep with a whole number.
    """
    extra: dict[float, tuple[int, int]] = {}
    for entry in s.extra_sizes:
        good = isinstance(entry, tuple) and len(entry) == 2 and type(entry[1]) is int
        if not good or entry[0] not in s.budgets:
            raise UserError(
                f"config.sweep.extra_sizes: {shown(entry)} should be a budget of the sweep and a "
                "number of rungs, as in ((3e10, -1), (1e11, 2))"
            )
        below, above = extra.get(entry[0], (0, 0))
        extra[entry[0]] = below + max(0, -entry[1]), above + max(0, entry[1])
    return extra


def at_budget(config: ConfigDict, rung: Rung, budget: float, recipe: RunRecipe) -> RunRequest:
    """Return the run of one size whose training costs at most `budget` FLOPs, in whole steps.

    A recipe chooses its batch for the length that the budget pays for, before rounding to steps.
    """
    flops = config.sweep.flops
    tokens = budget / accounting.flops_per_token(rung.shape, flops)
    values = {**rung.values(), **recipe.batch_values(rung.values(), tokens)}
    batch = values.get("train.batch_size", config.train.batch_size)
    per_step = batch * config_lib.targets_per_row(config)
    whole = accounting.tokens_for_budget(rung.shape, budget, per_step, flops)
    return RunRequest({**values, "train.tokens": whole}, budget)


def _guess(s: ConfigDict, budget: float) -> float:
    """Return the guess of the best n_params at a budget. Raises UserError if it is no number."""
    try:
        guess = s.optimum_guess * (budget / 1e12) ** s.optimum_exponent
    except (OverflowError, ZeroDivisionError):
        guess = math.inf
    if not 0 < guess < math.inf:
        raise UserError(
            f"config.sweep.optimum_exponent={s.optimum_exponent:g}: the guess at {budget:g} FLOPs "
            "is no finite number of parameters; choose an exponent from 0 to 1"
        )
    return guess


def params(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield L(N) runs: every rung of the ladder at one length, config.sweep.tokens."""
    if len(config.sweep.tokens) != 1:
        raise UserError(
            f"config.sweep.tokens={config.sweep.tokens}: a params sweep has one run length"
        )
    for rung in rungs_of(config):
        yield RunRequest({**rung.values(), "train.tokens": int(config.sweep.tokens[0])})


def data(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield L(D) runs: one size, config.model, at every length and amount of unique tokens.

    Lengths beyond the unique tokens repeat them, for data-constrained laws (Muennighoff et al.
    2023).
    """
    unique = [int(u) for u in config.sweep.unique_tokens]
    unique_axis = axes.axis("data.unique_tokens", unique) if unique else [{}]
    for values in axes.product(unique_axis, _lengths_axis(config.sweep.tokens)):
        yield RunRequest(values)


def ladder(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield L(N, D) runs: every rung at every length, in tokens or in tokens per parameter."""
    for rung in rungs_of(config):
        for length in _lengths_axis(lengths(config, rung)):
            yield RunRequest({**rung.values(), **length})


def hyper(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield a search of learning rate and batch size on every rung, at each of its lengths.

    Rates are sweep.lr_values, or sweep.lr_factors times those of the recipe or config. Lengths are
    rounded to a multiple of the steps of all batch sizes, so that compared runs have equal length.
    """
    s, recipe = config.sweep, RunRecipe(config)
    rates = [(None, {"optim.lr": lr}) for lr in s.lr_values] or [(f, {}) for f in s.lr_factors]
    for rung in rungs_of(config):
        for tokens in lengths(config, rung):
            chosen = recipe.batch_values(rung.values(), tokens)
            single = chosen.get("train.batch_size", config.train.batch_size)
            batches = [int(b) for b in s.batch_sizes] or [single]
            common = math.lcm(*batches) * config_lib.targets_per_row(config)
            rounded = round(tokens / common) * common
            error = rounded / tokens - 1
            if abs(error) > MAX_LENGTH_ERROR:
                raise UserError(
                    f"config.sweep: a run of {tokens} tokens is not a multiple of the {common} "
                    f"tokens that steps of {', '.join(map(str, batches))} rows share; raise the "
                    "length, or choose batch sizes that divide each other"
                )
            note = f"requested {tokens} tokens ({error:+.1%})" if abs(error) > 0.01 else ""
            for batch, (factor, rate) in itertools.product(batches, rates):
                values = {**rung.values(), "train.tokens": rounded, "train.batch_size": batch}
                yield RunRequest({**values, **rate}, note=note, lr_factor=factor)


def grid(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield the product of the axes config.sweep.grid_keys; an axis of several keys is zipped."""
    s, where = config.sweep, "config.sweep.grid_values"
    axes.check(config, s.grid_keys, "config.sweep.grid_keys")
    if not s.grid_keys:
        raise UserError("config.sweep.grid_keys is empty; name the keys to sweep")
    grid_axes = [
        axes.points(keys, values, f"{where}[{i}]")
        for i, (keys, values) in enumerate(zip(s.grid_keys, s.grid_values, strict=True))
    ]
    for point in axes.product(*grid_axes):
        yield RunRequest(point)


def _lengths_axis(tokens) -> list[dict[str, Any]]:
    return axes.axis("train.tokens", [int(t) for t in tokens])


KINDS: dict[str, Callable[[ConfigDict], Iterator[RunRequest]]] = {
    "compute": compute,
    "params": params,
    "data": data,
    "ladder": ladder,
    "hyper": hyper,
    "grid": grid,
    "random": draw_runs,
    "design": design_runs,
}
