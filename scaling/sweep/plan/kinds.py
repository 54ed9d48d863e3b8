"""The kinds of sweep: each yields what it wants of its runs, as changes to the study's config.

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

FARTHEST = 0.1  # hyper: lengths that batch sizes share may differ this much from those asked for


def compute(config: ConfigDict) -> Iterator[RunRequest]:
    """IsoFLOP (Hoffmann et al. 2022, approach 2): at each budget consecutive rungs around a guess."""
    s, rungs = config.sweep, rungs_of(config)
    if len(rungs) < s.sizes_per_budget:
        raise UserError(
            f"config.sweep.sizes_per_budget={s.sizes_per_budget}: the ladder has only {len(rungs)} "
            "distinct rungs; raise config.sweep.rungs"
        )
    for budget in s.budgets:
        guess = s.optimum_guess * (budget / 1e12) ** s.optimum_exponent
        centre = min(range(len(rungs)), key=lambda i: abs(math.log(rungs[i].n_params / guess)))
        first = min(max(0, centre - (s.sizes_per_budget - 1) // 2), len(rungs) - s.sizes_per_budget)
        for rung in rungs[first : first + s.sizes_per_budget]:
            yield at_budget(config, rung, budget)


def params(config: ConfigDict) -> Iterator[RunRequest]:
    """L(N): every rung of the ladder at one length, config.sweep.tokens."""
    if len(config.sweep.tokens) != 1:
        raise UserError(
            f"config.sweep.tokens={config.sweep.tokens}: a params sweep has one run length"
        )
    for rung in rungs_of(config):
        yield RunRequest({**size_values(config, rung), "train.tokens": int(config.sweep.tokens[0])})


def data(config: ConfigDict) -> Iterator[RunRequest]:
    """L(D): one size, config.model, at every length, with every amount of unique tokens.

    Lengths beyond the unique tokens repeat them, for data-constrained laws (Muennighoff et al. 2023).
    """
    unique = [int(u) for u in config.sweep.unique_tokens]
    repeated = axes.axis("data.unique_tokens", unique) if unique else [{}]
    for values in axes.product(repeated, _lengths_axis(config.sweep.tokens)):
        yield RunRequest(values)


def ladder(config: ConfigDict) -> Iterator[RunRequest]:
    """L(N, D): every rung at every length, the same for all rungs or in tokens per parameter."""
    for rung in rungs_of(config):
        for length in _lengths_axis(lengths(config, rung)):
            yield RunRequest({**size_values(config, rung), **length})


def hyper(config: ConfigDict) -> Iterator[RunRequest]:
    """A search of learning rate and batch size on every rung, at each of its lengths.

    Rates are sweep.lr_values, or sweep.lr_factors times the study's rule. Lengths are rounded to steps
    that all batch sizes share, so that the runs compared are of equal length.
    """
    s = config.sweep
    batches = [int(b) for b in s.batch_sizes] or [config.train.batch_size]
    common = math.lcm(*batches) * config_lib.targets_per_row(config)
    for rung in rungs_of(config):
        values = size_values(config, rung)
        rates = s.lr_values or [_round(f * values["optim.lr"]) for f in s.lr_factors]
        for tokens in lengths(config, rung):
            rounded = round(tokens / common) * common
            off = rounded / tokens - 1
            if abs(off) > FARTHEST:
                raise UserError(
                    f"config.sweep: a run of {tokens} tokens is no multiple of the {common} tokens "
                    f"that steps of {', '.join(map(str, batches))} rows share; raise the length, "
                    "or choose batch sizes that divide each other"
                )
            searched = axes.product(
                axes.axis("train.batch_size", batches), axes.axis("optim.lr", rates)
            )
            note = f"asked {tokens} tokens ({off:+.1%})" if abs(off) > 0.01 else ""
            for point in searched:
                yield RunRequest({**values, "train.tokens": rounded, **point}, note=note)


def grid(config: ConfigDict) -> Iterator[RunRequest]:
    """The product of the axes config.sweep.grid_keys; an axis of several keys is zipped."""
    s, where = config.sweep, "config.sweep.grid_values"
    axes.check(config, s.grid_keys, "config.sweep.grid_keys")
    if not s.grid_keys:
        raise UserError("config.sweep.grid_keys is empty; name the keys to sweep")
    found = [
        axes.points(keys, values, f"{where}[{i}]")
        for i, (keys, values) in enumerate(zip(s.grid_keys, s.grid_values, strict=True))
    ]
    for point in axes.product(*found):
        yield RunRequest(point)


def _lengths_axis(tokens) -> list[dict[str, Any]]:
    return axes.axis("train.tokens", [int(t) for t in tokens])


def _round(value: float) -> float:
    """Six digits, as rates of the rule have."""
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
