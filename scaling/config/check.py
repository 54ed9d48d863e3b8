"""Check a config: each key by its declaration, and the keys that must fit together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from scaling.config import check_data, check_model
from scaling.config.check_model import LADDERS
from scaling.config.flat_dict import view
from scaling.config.keys import KEYS
from scaling.config.steps import merge_steps
from scaling.utils import plugins
from scaling.utils.errors import UserError, shown
from scaling.utils.suggest import nearest

# Tuples of numbers, which sweeps alone use.
NUMBERS = {name: key for name, key in KEYS.items() if key.type is tuple and key.unit}


HALVED = ("none", "grid", "random", "hyper")  # kinds that successive halving is for


def unknown_key(name: str, known: Iterable[str] = KEYS) -> str:
    """Return the end of a line about a key that is not declared."""
    near = nearest(name, known)
    hint = f"did you mean config.{near}?" if near else "see configs/base.py"
    return f"no such key; {hint}"


def check_flat(flat: Mapping[str, Any], source: str) -> None:
    """Raise UserError at the first key that is unknown, missing, of a wrong type or impossible."""
    for name in flat:
        if name not in KEYS:
            raise UserError(f"{source}: config.{name}: {unknown_key(name)}")
    plugins.load(flat.get("plugins", ()))
    for name, key in KEYS.items():
        if name not in flat:
            raise UserError(f"{source}: config.{name} is missing; overlay configs/base.py")
        value = flat[name]
        if value is key.default:
            continue
        if problem := key.problem(value):
            raise UserError(f"{source}: config.{name}={shown(value)}{problem}")
        if key.fields and flat["data.field"] not in key.fields and value != key.default:
            raise UserError(
                f"{source}: config.{name}={value!r} is for {' and '.join(key.fields)}, not for "
                f"config.data.field={flat['data.field']!r}; leave it out"
            )
    if flat["sweep.kind"] != "none":  # the runs of a plan use no numbers of a sweep
        _check_numbers(flat, source)
    if problem := next(_combinations(view(flat)), ""):
        raise UserError(f"{source}: {problem}")
    if flat["sweep.kind"] == "none":  # a sweep replaces lengths run by run
        merge_steps(view(flat))


def _check_numbers(flat: Mapping[str, Any], source: str) -> None:
    for name, key in NUMBERS.items():
        for value in flat[name]:
            if problem := key.problem_of_item(value):
                raise UserError(f"{source}: config.{name}: {shown(value)}{problem}")


def _combinations(c: Any) -> Iterator[str]:
    """Yield a line for each combination of keys that makes no sense."""
    yield from check_model.problems(c)
    yield from check_data.problems(c.data)
    yield from _of_training(c)
    yield from _of_sweep(c)
    yield from _of_launch(c.launch)


def _of_training(c: Any) -> Iterator[str]:
    if c.train.steps_per_dispatch % c.train.log_every:
        yield (
            f"config.train.log_every={c.train.log_every} should divide "
            f"config.train.steps_per_dispatch={c.train.steps_per_dispatch}"
        )
    if c.optim.cooldown == "merge" and c.optim.schedule != "wsd":
        yield (
            f"config.optim.cooldown='merge' replaces the decay of config.optim.schedule='wsd'; "
            f"{c.optim.schedule!r} has none"
        )
    if c.optim.label_smoothing == 1:
        yield "config.optim.label_smoothing=1 leaves nothing of the target; choose below 1"


def _of_sweep(c: Any) -> Iterator[str]:
    m, s = c.model, c.sweep
    if m.kind == "transformer" and s.kind in LADDERS:
        of, part = f"config.model.head_dim={m.head_dim}", m.head_dim
        if s.heads:
            of, part = f"config.sweep.heads={s.heads}", s.heads
        elif m.kv_heads:
            of, part = f"{of} times config.model.kv_heads={m.kv_heads}", part * m.kv_heads
        if s.width_multiple % part:
            yield (f"config.sweep.width_multiple={s.width_multiple} should be a multiple of {of}")
    if len(s.grid_keys) != len(s.grid_values):
        yield "config.sweep.grid_keys and config.sweep.grid_values should have equal lengths"
    if s.recipe == "power" and s.lr_coefficient is None:
        yield (
            "config.sweep.recipe='power' needs config.sweep.lr_coefficient; set it and "
            "config.sweep.lr_n_exponent"
        )
    if s.recipe not in (None, "power") and s.lr_coefficient is not None:
        yield (
            f"config.sweep.recipe={shown(s.recipe, 80)} and config.sweep.lr_coefficient="
            f"{s.lr_coefficient:g} both set the learning rate; set lr_coefficient=None"
        )
    if s.kind == "design" and not s.design_file:
        yield "config.sweep.design_file is not set; name the CSV that `scaling design --out` wrote"
    factor = c.laws.holdout_factor
    if s.kind == "compute" and factor and s.budgets and not factor * max(s.budgets) < math.inf:
        yield (
            f"config.laws.holdout_factor={factor:g} times the largest of config.sweep.budgets is "
            "no finite budget; lower it"
        )
    if (s.adaptive or s.extra_sizes) and s.kind not in ("compute", "none"):
        key = "adaptive" if s.adaptive else "extra_sizes"
        yield f"config.sweep.{key}: sizes are added at a budget, so only in sweeps of kind compute"
    if s.halving and s.kind not in HALVED:
        yield (
            f"config.sweep.halving={s.halving}: a sweep of kind {s.kind!r} needs all of its runs; "
            "halving is for grid, random and hyper"
        )
    if s.halving and not s.halving_tokens:
        yield "config.sweep.halving_tokens is not set; give the tokens of the first rung"


def _of_launch(launch: Any) -> Iterator[str]:
    for pair in launch.resources:
        named = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
        if not (named and type(pair[1]) in (int, float) and pair[1] > 0):
            yield f'config.launch.resources: {pair!r} should be a name and an amount, ("TPU", 4)'
    if not all(isinstance(line, str) for line in launch.setup):
        yield f"config.launch.setup={launch.setup!r} should be lines of a shell"
