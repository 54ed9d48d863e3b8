"""State a recipe for plans and curves: name, equation, source, and which settings it chooses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scaling.recipes.recipe import Base, Point, Recipe, mismatches

# Settings and the config keys that hold them; `batch_tokens` in rows.
KEYS = {
    "lr": "optim.lr",
    "batch_tokens": "train.batch_size",
    "weight_decay": "optim.weight_decay",
    "eps": "optim.eps",
    "beta1": "optim.beta1",
    "beta2": "optim.beta2",
    "warmup_fraction": "optim.warmup_fraction",
    "decay_fraction": "optim.decay_fraction",
}
_ONE = Point(1, 1, 1.0, 1.0, 1.0, 1.0, 1)
_BASE = Base(_ONE, lr=1.0, weight_decay=1.0, eps=1.0, beta1=0.5, beta2=0.5)


def chosen(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the settings that a recipe chooses, as in `Settings`."""
    settings = dataclasses.asdict(recipe.function(_ONE, _BASE))
    return tuple(name for name, value in settings.items() if value is not None)


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as JSON of a curve or plan has it."""
    return {
        "name": recipe.name,
        "equation": recipe.equation,
        "source": recipe.source,
        "sets": list(chosen(recipe)),
    }


def line(recipe: Recipe, base: Base | None = None) -> str:
    """Return name, equation and source in one line, with the base of a proportionality."""
    text = f"recipe {recipe.name}: {recipe.equation} ({recipe.source})"
    if recipe.relative and base is not None:
        p = base.point
        text += (
            f"; the config's own run is its reference: N {p.n_params:,}, D {p.tokens:,}, "
            f"B {p.batch_tokens:,}, lr {base.lr:g}, weight decay {base.weight_decay:g}"
        )
    return text


def beyond(recipe: Recipe, points: Iterable[Mapping[str, float]]) -> Iterator[str]:
    """Yield a line for each end of a fitted recipe's ranges that runs exceed, with the factor.

    `points` holds the "n_params", "tokens" and "batch_tokens" of each run.
    """
    points = list(points)
    for name, (low, high) in recipe.ranges.items():
        values = [point[name] for point in points]
        over, under = [v for v in values if v > high], [v for v in values if v < low]
        for side, outside, factor in (
            ("above", over, max(over, default=high) / high),
            ("below", under, low / min(under, default=low)),
        ):
            if outside:
                yield (
                    f"recipe {recipe.name}: {name} {factor:.3g} times {side} the recipe's range "
                    f"({low:.4g} to {high:.4g}), in {len(outside)} of {len(points)} runs"
                )


def other_conditions(recipe: Recipe, configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each value of flat configs that a preset was not made for, once each."""
    return list(dict.fromkeys(text for flat in configs for text in mismatches(recipe, flat)))
