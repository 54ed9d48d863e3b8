"""Apply a study's recipe to its runs: the config keys that it sets, beside those of the sweep."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling.config.flat_dict import flatten, view
from scaling.config.key import LARGEST
from scaling.config.keys import KEYS, decoded
from scaling.config.steps import targets_per_row
from scaling.recipes import describe, registry
from scaling.recipes.recipe import Base, Point, Recipe, Settings, mismatches
from scaling.sweep.plan.request import RunRequest
from scaling.utils.errors import UserError

OTHERS = {name: key for name, key in describe.KEYS.items() if name not in ("lr", "batch_tokens")}
UNCOUNTED = ("embedding", "head", "attention_softmax")  # parts of Point.flops_per_token


class RunRecipe:
    """The recipe of a study and the base that it refers to. Without one, it sets nothing."""

    def __init__(self, config: ConfigDict):
        """Raises UserError if the recipe is unknown or its file cannot be read."""
        self.flat = flatten(config)
        self.recipe = registry.of_sweep(config.sweep)
        self.base = base_of(config) if self.recipe else None

    def values(self, request: RunRequest) -> dict[str, Any]:
        """Return the keys that the recipe, or a search of rates, sets for a requested run.

        A key that the request sets is never among them. Raises UserError if a strict recipe was
        made for other values, or gives no finite settings.
        """
        if self.recipe is None and request.lr_factor is None:
            return {}
        given = decoded(request.values)
        if any(key not in KEYS or KEYS[key].problem(value) for key, value in given.items()):
            return {}  # the check of the whole config names the value
        c = view({**self.flat, **given})
        values: dict[str, Any] = {}
        if self.recipe is not None:
            self._check(self.recipe, given)
            values = self._batch_and_rate(c, given)
        if request.lr_factor is not None and "optim.lr" not in given:
            values["optim.lr"] = rounded(request.lr_factor * values.get("optim.lr", c.optim.lr))
        return self._others(view({**self.flat, **given, **values}), given) | values

    def batch_values(self, changes: Mapping[str, Any], tokens: float) -> dict[str, int]:
        """Return the batch, in rows, that the recipe gives a run of these changes and `tokens`.

        Empty if it says nothing about the batch: then that of the config stays.
        """
        if self.recipe is None:
            return {}
        c = view({**self.flat, **changes})
        batch = self._settings(point_of(c, tokens)).batch_tokens
        return {} if batch is None else {"train.batch_size": rows(c, batch)}

    def notes(self, runs: Sequence[Any]) -> list[str]:
        """Return lines about the recipe of planned runs (PlannedRun): source, then limits."""
        if self.recipe is None:
            return []
        configs = [view(run.values) for run in runs]
        points = [
            {
                "n_params": run.n_params,
                "tokens": run.tokens,
                "batch_tokens": c.train.batch_size * targets_per_row(c),
            }
            for run, c in zip(runs, configs, strict=True)
        ]
        return [
            describe.line(self.recipe, self.base),
            *self.recipe.notes,
            *describe.other_conditions(self.recipe, (run.values for run in runs)),
            *describe.beyond(self.recipe, points),
        ]

    def _batch_and_rate(self, c: Any, given: Collection[str]) -> dict[str, Any]:
        """Return the keys of batch and rate that the recipe sets; the rate is for that batch."""
        values: dict[str, Any] = {}
        settings = self._settings(point_of(c, c.train.tokens))
        if settings.batch_tokens is not None and "train.batch_size" not in given:
            values["train.batch_size"] = batch = rows(c, settings.batch_tokens)
            point = replace(point_of(c, c.train.tokens), batch_tokens=batch * targets_per_row(c))
            settings = self._settings(point)
        if settings.lr is not None and "optim.lr" not in given:
            values["optim.lr"] = rounded(settings.lr)
        return values

    def _others(self, c: Any, given: Collection[str]) -> dict[str, Any]:
        """Return the other keys, for the batch and rate of `c`: a tau holds at every rate."""
        settings = self._settings(replace(point_of(c, c.train.tokens), lr=c.optim.lr))
        stated = {key: getattr(settings, name) for name, key in OTHERS.items()}
        values: dict[str, Any] = {
            key: rounded(value)
            for key, value in stated.items()
            if value is not None and key not in given
        }
        if "optim.warmup_tokens" in given:
            values.pop("optim.warmup_fraction", None)
        elif "optim.warmup_fraction" in values:
            values["optim.warmup_tokens"] = None  # else it would win
        return values

    def _settings(self, point: Point) -> Settings:
        if self.recipe is None or self.base is None:
            return Settings()
        return self.recipe.settings(point, self.base)

    def _check(self, recipe: Recipe, given: Mapping[str, Any]) -> None:
        """Raise UserError if a strict recipe was made for other values than a run has."""
        lines = mismatches(recipe, {**self.flat, **given}) if recipe.strict else []
        if lines:
            raise UserError(f"{lines[0]}; fit one for this study with `scaling tune`")


def rounded(value: float) -> float:
    """Round to the six digits that a plan keeps of a value."""
    return float(f"{value:.6g}")


def rows(c: Any, batch_tokens: float) -> int:
    """Return the batch of a config in rows: the nearest power of two times train.accumulate.

    Powers of two keep the number of compiled programs small, and divide over usual meshes. The mesh
    itself is left out, since a plan is the same on every machine.
    """
    exact = batch_tokens / targets_per_row(c) / c.train.accumulate
    if not exact < LARGEST:
        raise UserError(f"the recipe's batch of {batch_tokens:.3g} units is more than a step takes")
    return c.train.accumulate * 2 ** round(math.log2(max(exact, 1.0)))


def base_of(config: ConfigDict) -> Base:
    """Return the run that a config describes by itself, as the base of proportionalities."""
    o = config.optim
    point = point_of(config, config.train.tokens)
    return Base(point, o.lr, o.weight_decay, o.eps, o.beta1, o.beta2)


def point_of(c: Any, tokens: float) -> Point:
    """Return the point of a run: the model, batch and vocabulary of `c`, at this length."""
    shape = accounting.shape_of(c)
    n_params, with_head, flops_per_token = _counts(shape)
    unique = c.data.unique_tokens or tokens
    return Point(
        n_params=n_params,
        n_params_with_head=with_head,
        flops_per_token=flops_per_token,
        tokens=tokens,
        epoch_tokens=min(tokens, unique),
        batch_tokens=c.train.batch_size * targets_per_row(c),
        vocab_size=shape.vocab_size,
    )


@functools.lru_cache(maxsize=4096)
def _counts(shape: accounting.Shape) -> tuple[int, int, int]:
    counts = accounting.param_counts(shape)
    forward = accounting.forward_flops_per_token(shape)
    flops = 3 * sum(n for part, n in forward.items() if part not in UNCOUNTED)
    return counts["n_params"], counts["n_params_with_head"], flops
