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

import math
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.sweep.plan import grid as axes
from scaling.sweep.plan.from_design import design_runs
from scaling.sweep.plan.ladder import ladder as rungs_of
from scaling.sweep.plan.random_search import draw_runs
from scaling.sweep.plan.request import RunRequest, at_budget, lengths, size_values
from scaling.utils.errors import UserError

MAX_LENGTH_ERROR = 0.1  # hyper: largest relative difference of a rounded length from the request


def compute(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield IsoFLOP runs: at each budget, consecutive rungs around a guess of the optimum.

    Reference: Hoffmann et al. 2022, approach 2.
    """
    s, rungs = config.sweep, rungs_of(config)
    if len(rungs) < s.sizes_per_budget:
        raise UserError(
            f"config.sweep.sizes_per_budget={s.sizes_per_budget}: the ladder has only {len(rungs)} "
            "distinct rungs; raise config.sweep.rungs"
        )
    for budget in s.budgets:
        guess = _guess(s, budget)
        centre = min(range(len(rungs)), key=lambda i: abs(math.log(rungs[i].n_params / guess)))
        first = min(max(0, centre - (s.sizes_per_budget - 1) // 2), len(rungs) - s.sizes_per_budget)
        for rung in rungs[first : first + s.sizes_per_budget]:
            yield at_budget(config, rung, budget)


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
        yield RunRequest({**size_values(config, rung), "train.tokens": int(config.sweep.tokens[0])})


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
            yield RunRequest({**size_values(config, rung), **length})


def hyper(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield a search of learning rate and batch size on every rung, at each of its lengths.

    Rates are sweep.lr_values, or sweep.lr_factors times the study's rule. Lengths are rounded to a
    multiple of the steps of all batch sizes, so that compared runs have equal length.
    """
    s = config.sweep
    batches = [int(b) for b in s.batch_sizes] or [config.train.batch_size]
    common = math.lcm(*batches) * config_lib.targets_per_row(config)
    for rung in rungs_of(config):
        values = size_values(config, rung)
        rates = s.lr_values or [_round(f * values["optim.lr"]) for f in s.lr_factors]
        for tokens in lengths(config, rung):
            rounded = round(tokens / common) * common
            error = rounded / tokens - 1
            if abs(error) > MAX_LENGTH_ERROR:
                raise UserError(
                    f"config.sweep: a run of {tokens} tokens is not a multiple of the {common} "
                    f"tokens that steps of {', '.join(map(str, batches))} rows share; raise the "
                    "length, or choose batch sizes that divide each other"
                )
            points = axes.product(
                axes.axis("train.batch_size", batches), axes.axis("optim.lr", rates)
            )
            note = f"requested {tokens} tokens ({error:+.1%})" if abs(error) > 0.01 else ""
            for point in points:
                yield RunRequest({**values, "train.tokens": rounded, **point}, note=note)


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


def _round(value: float) -> float:
    """Round to six digits, as the study's rule rounds rates."""
    return float(f"{value:.6g}")


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
