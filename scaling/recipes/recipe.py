"""Define a recipe: a pure function from a run's size and length to its hyperparameters.

Letters: N parameters, D tokens of the run, B tokens per step, E tokens of an epoch, lambda weight
decay. tau = B / (lr lambda D) is the share of a run that AdamW's average of updates remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Point:
    """A run that a recipe is asked about. Tokens are the units of the run's field of data."""

    n_params: float  # without embeddings and head
    n_params_with_head: float
    flops_per_token: float  # training FLOPs of the blocks, attention included, softmax not
    tokens: float
    epoch_tokens: float  # tokens before the data repeat; `tokens` if they do not
    batch_tokens: float  # of a step; a recipe that chooses the batch ignores it there
    vocab_size: int
    lr: float | None = None  # the run's peak rate where it is known; None: the recipe's own


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a run. None: the recipe says nothing, and the config's value stays."""

    lr: float | None = None  # peak
    batch_tokens: float | None = None  # before rounding to rows
    weight_decay: float | None = None  # decoupled, times lr
    eps: float | None = None
    beta1: float | None = None
    beta2: float | None = None
    warmup_fraction: float | None = None  # of the run
    decay_fraction: float | None = None  # of the run, for schedule wsd


@dataclass(frozen=True)
class Base:
    """The run that the study's config itself describes, to which proportionalities refer."""

    point: Point
    lr: float
    weight_decay: float
    eps: float
    beta1: float
    beta2: float


@dataclass(frozen=True)
class Recipe:
    """A rule for hyperparameters with its equation and source.

    `function` returns settings for a point and a base. It must give the same `batch_tokens` for
    every `point.batch_tokens`, and the same lr for every `point.lr`.
    """

    name: str
    equation: str
    source: str
    function: Callable[[Point, Base], Settings] = field(repr=False)
    relative: bool = False  # to the base; otherwise the source states constants
    # Config keys and the values that the recipe was made for.
    made_for: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    strict: bool = False  # refuse other values of `made_for`; otherwise mention them
    # Smallest and largest "n_params", "tokens" and "batch_tokens" behind a fitted recipe.
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # for the user of a plan

    def settings(self, point: Point, base: Base) -> Settings:
        """Return the settings of a run. Raises UserError if they are no finite numbers."""
        try:
            return self.function(point, base)
        except (ArithmeticError, ValueError):
            raise UserError(
                f"recipe {self.name}: no finite settings for {point.n_params:,.4g} parameters and "
                f"{point.tokens:,.4g} tokens; choose other exponents or sizes"
            ) from None


# Keys that a model of an older config lacks, and their values there.
ABSENT = {"model.parametrization": "sp"}


def mismatches(recipe: Recipe, values: Mapping[str, Any]) -> list[str]:
    """Return a line for each key of a run's flat config that the recipe was not made for."""
    lines = []
    for key, accepted in recipe.made_for.items():
        value = values.get(key, ABSENT.get(key))
        if value not in accepted:
            ours = " or ".join(f"{a!r}" for a in accepted)
            lines.append(
                f"recipe {recipe.name} is for config.{key}={ours}, and this study has {value!r}"
            )
    return lines


def weight_decay(tau: float, point: Point, lr: float) -> float:
    """Return the weight decay lambda = B / (lr tau D) that gives a run this tau."""
    return point.batch_tokens / (lr * tau * point.tokens)
