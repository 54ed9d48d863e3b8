"""What a kind of sweep wants of one run, and the rules that all kinds share: sizes, rates, lengths."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import load as config_lib
from scaling.sweep.plan.ladder import Rung, learning_rate


@dataclass(frozen=True)
class RunRequest:
    """One run as its kind wants it."""

    values: dict[str, Any]  # dotted keys that differ from the study's config
    budget: float = 0.0  # training FLOPs asked for; 0 where the kind asks for tokens
    note: str = ""  # how far the run is from what was asked for
    copy: int = 0  # how many equal runs were wanted before; each takes seeds of its own

    def with_seed(self, seed: int) -> RunRequest:
        return dataclasses.replace(self, values={**self.values, "seed": seed})


def size_values(config: ConfigDict, rung: Rung) -> dict[str, Any]:
    """The size of a rung, with the learning rate that the study's rule gives it."""
    return {**rung.values(), "optim.lr": learning_rate(config, rung.n_params)}


def at_budget(config: ConfigDict, rung: Rung, budget: float) -> RunRequest:
    """The run of one size whose training costs at most `budget` FLOPs, in whole steps."""
    tokens = accounting.tokens_for_budget(
        rung.shape, budget, config_lib.tokens_per_step(config), config.sweep.flops
    )
    return RunRequest({**size_values(config, rung), "train.tokens": tokens}, budget)


def lengths(config: ConfigDict, rung: Rung) -> list[int]:
    """Tokens of the runs of one size: sweep.tokens_per_param times n_params, or sweep.tokens.

    n_params is without embeddings and head, as everywhere in a plan.
    """
    s = config.sweep
    if s.tokens_per_param:
        return [max(1, round(ratio * rung.n_params)) for ratio in s.tokens_per_param]
    return [int(tokens) for tokens in s.tokens]
