"""The kinds of sweep: each yields what it wants of its runs, as changes to the study's config.

compute  IsoFLOP: sizes around a guess at each budget
params   L(N): every rung of the ladder at one length
data     L(D): one size at every length, and with every amount of unique tokens
grid     any keys: the product of axes, each of one key or of several zipped
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling import config as config_lib
from scaling.errors import UserError
from scaling.sweep import axes
from scaling.sweep.ladder import Rung, ladder, learning_rate


@dataclass(frozen=True)
class Wanted:
    """One run as its kind wants it."""

    values: dict[str, Any]  # dotted keys that differ from the study's config
    budget: float = 0.0  # training FLOPs asked for; 0 where the kind asks for tokens
    note: str = ""  # how far the run is from what was asked for
    copy: int = 0  # how many equal runs were wanted before; each takes seeds of its own

    def with_seed(self, seed: int) -> Wanted:
        return dataclasses.replace(self, values={**self.values, "seed": seed})


def sized(config: ConfigDict, rung: Rung) -> dict[str, Any]:
    """The size of a rung, with the learning rate that the study's rule gives it."""
    return {**rung.values(), "optim.lr": learning_rate(config, rung.n_params)}


def budget_values(config: ConfigDict, rung: Rung, budget: float) -> Wanted:
    """The run of one size whose training costs at most `budget` FLOPs."""
    tokens = accounting.tokens_for_budget(
        rung.shape, budget, config_lib.tokens_per_step(config), config.sweep.flops
    )
    return Wanted({**sized(config, rung), "train.tokens": tokens}, budget)


def compute(config: ConfigDict) -> Iterator[Wanted]:
    """IsoFLOP (Hoffmann et al. 2022, approach 2): at each budget consecutive rungs around a guess."""
    s, rungs = config.sweep, ladder(config)
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
            yield budget_values(config, rung, budget)


def params(config: ConfigDict) -> Iterator[Wanted]:
    """L(N): every rung of the ladder at one length, config.sweep.tokens."""
    if len(config.sweep.tokens) != 1:
        raise UserError(
            f"config.sweep.tokens={config.sweep.tokens}: a params sweep has one run length"
        )
    for rung in ladder(config):
        yield Wanted({**sized(config, rung), "train.tokens": int(config.sweep.tokens[0])})


def data(config: ConfigDict) -> Iterator[Wanted]:
    """L(D): one size, config.model, at every length, with every amount of unique tokens.

    Lengths beyond the unique tokens repeat them (Muennighoff et al. 2023).
    """
    unique = [int(u) for u in config.sweep.unique_tokens]
    repeated = axes.axis("data.unique_tokens", unique) if unique else [{}]
    lengths = axes.axis("train.tokens", [int(t) for t in config.sweep.tokens])
    for values in axes.product(repeated, lengths):
        yield Wanted(values)


def grid(config: ConfigDict) -> Iterator[Wanted]:
    """The product of the axes config.sweep.grid_keys; an axis of several keys is zipped."""
    s, where = config.sweep, "config.sweep.grid_values"
    axes.check(config, s.grid_keys, "config.sweep.grid_keys")
    found = [
        axes.points(keys, values, f"{where}[{i}]")
        for i, (keys, values) in enumerate(zip(s.grid_keys, s.grid_values, strict=True))
    ]
    for point in axes.product(*found):
        yield Wanted(point)


KINDS: dict[str, Callable[[ConfigDict], Iterator[Wanted]]] = {
    "compute": compute,
    "params": params,
    "data": data,
    "grid": grid,
}
