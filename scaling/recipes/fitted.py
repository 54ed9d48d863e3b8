"""Read a fitted recipe, the recipe.json that `scaling tune` writes.

    {"schema": 1, "parametrization": "sp", "base_width": 64, "base_depth": 2,
     "optimizer": "adamw", "vocab_size": 256, "field": "language", "unit": "tokens",
     "lr": {"coefficient": C, "n_exponent": p, "d_exponent": q, "batch_exponent": r},
     "batch_tokens": {"coefficient": C, "n_exponent": p, "d_exponent": q},
     "tau": {"coefficient": C, "n_exponent": p, "d_exponent": q},
     "range": {"n_params": [low, high], "tokens": [low, high], "batch_tokens": [low, high]},
     "loss_of_factor_2": x}

Each letter C, p, q, r is {"value": v, "low": v, "high": v}, with the ends of a 90% interval. The
rules are lr = C N^p D^q B^r, B = C N^p D^q and tau = B/(lr lambda D) = C N^p D^q, which gives the
weight decay lambda. N counts neither embeddings nor head, D and B count `unit`. `batch_tokens` and
`tau` may be null: the config's batch size or weight decay stays. `vocab_size` is the number of
outputs, in labelled fields that of the labels. `loss_of_factor_2` is the share by which the loss
rises if lr is off by a factor of two, or null. Other keys, such as the runs behind the fit, are not
read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scaling.config.field_traits import LABELLED, UNITS
from scaling.recipes.recipe import Base, Point, Recipe, Settings, weight_decay
from scaling.utils import file_version, files
from scaling.utils.errors import UserError, shown

SCHEMA = 1
FIX = "write it again with `scaling tune`"
RANGES = ("n_params", "tokens", "batch_tokens")
EXPONENTS = {"n_exponent": "N", "d_exponent": "D", "batch_exponent": "B"}
OF_RULE = {
    "lr": ("n_exponent", "d_exponent", "batch_exponent"),
    "batch_tokens": ("n_exponent", "d_exponent"),
    "tau": ("n_exponent", "d_exponent"),
}
REQUIRED = ("lr",)
SETS = ("lr", "batch_tokens", "weight_decay")  # settings, at most

Rule = dict[str, float]  # coefficient and exponents


def read(path: Path, name: str | None = None) -> Recipe:
    """Return the recipe of a file, by `name` or its path.

    Raises UserError naming a missing file, Damaged naming the file and the first bad key.
    """
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "no such file"
        raise UserError(
            f"config.sweep.recipe=fitted:{path}: {reason}; name the recipe.json that "
            "`scaling tune` wrote"
        )
    content = files.read_json(path, FIX)
    with files.damage(path, FIX):
        return parsed(content, name or f"fitted:{path}")


def parsed(content: dict[str, Any], name: str) -> Recipe:
    """Return the recipe of a file's content.

    Raises ValueError or KeyError at a bad key, UserError if a newer version wrote it.
    """
    _typed(content, "schema", int)
    file_version.refuse_newer(content, name, SCHEMA)
    rules = {key: rule for key in OF_RULE if (rule := _rule(content, key)) is not None}
    loss = content["loss_of_factor_2"]
    if loss is not None and not (files.is_number(loss) and loss >= 0):
        raise ValueError(f"loss_of_factor_2={shown(loss, 40)} should be 0 or more, or null")
    notes = () if loss is None else (f"a factor of 2 in lr costs {loss:.2%} of the loss",)
    return Recipe(
        name,
        "; ".join(_equation(key, rule) for key, rule in rules.items()),
        "scaling tune",
        _function(rules),
        made_for=_made_for(content),
        strict=True,
        ranges=_ranges(content),
        notes=notes,
    )


def _function(rules: dict[str, Rule]) -> Callable[[Point, Base], Settings]:
    def function(point: Point, base: Base) -> Settings:
        lr = _value(rules["lr"], point)
        actual = lr if point.lr is None else point.lr
        tau = _value(rules["tau"], point) if "tau" in rules else None
        return Settings(
            lr=lr,
            batch_tokens=_value(rules["batch_tokens"], point) if "batch_tokens" in rules else None,
            weight_decay=None if tau is None else weight_decay(tau, point, actual),
        )

    return function


def _value(rule: Rule, point: Point) -> float:
    return (
        rule["coefficient"]
        * point.n_params ** rule["n_exponent"]
        * point.tokens ** rule["d_exponent"]
        * point.batch_tokens ** rule.get("batch_exponent", 0.0)
    )


def _equation(key: str, rule: Rule) -> str:
    left = {"batch_tokens": "B", "tau": "B/(lr lambda D)"}.get(key, key)
    factors = [f"{EXPONENTS[e]}^{rule[e]:.3g}" for e in OF_RULE[key] if rule[e]]
    return " ".join([left, "=", f"{rule['coefficient']:.4g}", *factors])


def _rule(content: dict[str, Any], key: str) -> Rule | None:
    """Return the values of a rule, None if it is null."""
    if content[key] is None and key not in REQUIRED:
        return None
    stated = _typed(content, key, dict)
    rule = {}
    for name in ("coefficient", *OF_RULE[key]):
        if name not in stated:
            raise KeyError(f"{key}.{name}")
        interval = stated[name]
        for end in ("value", "low", "high"):
            if not isinstance(interval, dict) or not files.is_number(interval.get(end)):
                raise ValueError(f"{key}.{name}.{end} is not a finite number")
        if not interval["low"] <= interval["value"] <= interval["high"]:
            raise ValueError(f"{key}.{name} does not lie in its interval")
        rule[name] = float(interval["value"])
    if rule["coefficient"] <= 0:
        raise ValueError(f"{key}.coefficient={rule['coefficient']:g} should be positive")
    return rule


def _ranges(content: dict[str, Any]) -> dict[str, tuple[float, float]]:
    stated, ranges = _typed(content, "range", dict), {}
    for name in RANGES:
        if name not in stated:
            raise KeyError(f"range.{name}")
        ends = stated[name]
        good = isinstance(ends, list) and len(ends) == 2 and all(map(files.is_number, ends))
        if not good or not 0 < ends[0] <= ends[1]:
            raise ValueError(f"range.{name}={shown(ends, 40)} should be [low, high], positive")
        ranges[name] = float(ends[0]), float(ends[1])
    return ranges


def _made_for(content: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the config keys that the recipe depends on, and their values."""
    data_field = _typed(content, "field", str)
    if data_field not in UNITS:
        raise ValueError(f"field={shown(data_field, 40)}: choose one of {', '.join(UNITS)}")
    if _typed(content, "unit", str) != UNITS[data_field]:
        raise ValueError(f"unit should be {UNITS[data_field]!r} for field {data_field!r}")
    parametrization = _typed(content, "parametrization", str)
    outputs = "data.classes" if data_field in LABELLED else "data.vocab_size"
    keys = {
        "optim.name": _typed(content, "optimizer", str),
        "data.field": data_field,
        outputs: _count(content, "vocab_size"),
        "model.parametrization": parametrization,
    }
    bases = {f"model.{name}": _count(content, name) for name in ("base_width", "base_depth")}
    if parametrization != "sp":  # sp has no base
        keys |= bases
    return {key: (value,) for key, value in keys.items()}


def _typed(content: dict[str, Any], key: str, type_: type) -> Any:
    value = content[key]
    if type(value) is not type_:
        words = {int: "a whole number", str: "a text", dict: "an object"}
        raise ValueError(f"{key}={shown(value, 40)} should be {words[type_]}")
    return value


def _count(content: dict[str, Any], key: str) -> int:
    value = _typed(content, key, int)
    if value < 1:
        raise ValueError(f"{key}={value} should be 1 or more")
    return value
