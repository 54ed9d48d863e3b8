"""Describe one run that a kind of sweep requests; hold the shared rules of sizes and lengths."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from scaling.sweep.plan.ladder import Rung


@dataclass(frozen=True)
class RunRequest:
    """One run as a kind of sweep requests it."""

    values: dict[str, Any]  # dotted keys that differ from the study's config
    budget: float = 0.0  # requested training FLOPs; 0 if the kind requests tokens
    note: str = ""  # the difference between the run and the request of the user
    lr_factor: float | None = None  # times the rate of the recipe or config; None keeps it
    copy: int = 0  # number of equal requests before this one; each copy takes its own seeds

    def with_seed(self, seed: int) -> RunRequest:
        """Return the same request with this seed."""
        return dataclasses.replace(self, values={**self.values, "seed": seed})


def lengths(config: ConfigDict, rung: Rung) -> list[int]:
    """Return the tokens of the runs of one size: tokens_per_param * n_params, or sweep.tokens.

    n_params excludes embeddings and head, as everywhere in a plan.
    """
    s = config.sweep
    if s.tokens_per_param:
        # beyond that the length of a run is refused as a value of train.tokens
        return [max(1, round(min(ratio * rung.n_params, 1e30))) for ratio in s.tokens_per_param]
    return [int(tokens) for tokens in s.tokens]
