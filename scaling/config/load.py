"""Loads a study's config, checks it, and derives what follows from it. Errors name the key."""

from __future__ import annotations

import difflib
import functools
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from scaling.config import check_data, check_model
from scaling.config.constraints import (
    BELOW_ONE,
    CHOICES,
    FRACTIONS,
    LARGEST_SEED,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_LISTS,
    SEQUENCES,
    WHOLE_LISTS,
)
from scaling.config.flat_dict import flatten, nested, typed, view
from scaling.config.hashing import NOT_IN_RUN_HASH as NOT_IN_RUN_HASH
from scaling.config.hashing import NOT_IN_SWEEP_HASH as NOT_IN_SWEEP_HASH
from scaling.config.hashing import run_hash as run_hash
from scaling.config.hashing import run_id as run_id
from scaling.config.hashing import sweep_hash as sweep_hash
from scaling.config.hashing import without as without
from scaling.utils.errors import UserError, one_line
from scaling.utils.file_version import SCHEMA, refuse_newer


def base_config() -> ConfigDict:
    from configs import base

    return base.get_config()


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of `path` with `--config.key=value` overrides, checked and locked.

    Raises UserError that names the file, the key or the value.
    """
    if not path:
        raise UserError("--config is missing; try --config=configs/quickstart.py")
    known = _defaults()
    for argument in overrides:
        key = argument.split("=")[0].removeprefix("--config.")
        if key not in known:
            raise UserError(f"--config.{key}: no such key{nearest(key, known)}")
    if not Path(path.split(":")[0]).is_file():
        raise UserError(f"--config={path}: no such file")
    argv = ["scaling", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
    try:
        values(argv)
        config = values.config
    except flags.IllegalFlagValueError as error:
        raise UserError(f"wrong type: {one_line(error)}") from error
    except (
        Exception
    ) as error:  # the study's file is arbitrary code: whatever it raises is bad input
        raise UserError(f"{path}: {one_line(error)}") from error
    return check(config, source=path)


def from_dict(values: dict[str, Any], source: str = "config") -> ConfigDict:
    """A checked config from a nested dict, for instance a run's config.json; missing keys are refused."""
    return check(ConfigDict(values, convert_dict=True), source)


def with_values(config: ConfigDict, values: Mapping[str, Any]) -> ConfigDict:
    """A checked copy of `config` with dotted keys replaced."""
    return from_flat(replaced(flatten(config), values))


def from_flat(flat: Mapping[str, Any]) -> ConfigDict:
    """The locked config of a flat dict that was checked, see `replaced`."""
    return ConfigDict(nested(flat)).lock()


def replaced(flat: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`with_values` on flat dicts: a checked copy of `flat` with these keys replaced."""
    changed = dict(flat)
    for key, value in values.items():
        if key not in flat:
            raise UserError(f"config.{key}: no such key{nearest(key, flat)}")
        changed[key] = typed(value, flat[key])
    check_flat(changed, source="config")
    return changed


@functools.cache
def _defaults() -> dict[str, Any]:
    return flatten(base_config())


def check(config: ConfigDict, source: str) -> ConfigDict:
    """Raises UserError at the first key that is unknown, missing, of the wrong type, or impossible."""
    check_flat(flatten(config), source)
    return config.lock()


def check_flat(flat: Mapping[str, Any], source: str) -> None:
    """`check` of a flat dict."""
    base = _defaults()
    for key in flat:
        if key not in base:
            raise UserError(f"{source}: config.{key}: no such key{nearest(key, base)}")
    for key, default in base.items():
        if key not in flat:
            raise UserError(f"{source}: config.{key} is missing; overlay configs/base.py")
        same_type = type(flat[key]) is type(default) or (
            isinstance(default, float) and type(flat[key]) is int
        )
        if not same_type:
            raise UserError(
                f"{source}: config.{key}={flat[key]!r} should be of type {type(default).__name__}"
            )
        if type(flat[key]) is float and not math.isfinite(flat[key]):
            raise UserError(f"{source}: config.{key}={flat[key]!r} should be a finite number")
    for key, choices in CHOICES.items():
        if flat[key] not in choices:
            raise UserError(
                f"{source}: config.{key}={flat[key]!r}: choose one of {', '.join(choices)}"
            )
    for key in POSITIVE:
        if not flat[key] > 0:
            raise UserError(f"{source}: config.{key}={flat[key]!r} should be positive")
    for key in NOT_NEGATIVE:
        if not flat[key] >= 0:
            raise UserError(f"{source}: config.{key}={flat[key]!r} should be 0 or more")
    if flat["seed"] > LARGEST_SEED:
        raise UserError(f"{source}: config.seed={flat['seed']} should be at most {LARGEST_SEED}")
    for key in BELOW_ONE:
        if not flat[key] < 1:
            raise UserError(f"{source}: config.{key}={flat[key]!r} should be less than 1")
    for key in FRACTIONS:
        if not 0 <= flat[key] <= 1:
            raise UserError(f"{source}: config.{key}={flat[key]!r} should lie between 0 and 1")
    if flat["sweep.kind"] != "none":  # the runs of a plan use none of these
        _check_lists(flat, source)
    _check_combinations(view(flat), source)


def _check_lists(flat: Mapping[str, Any], source: str) -> None:
    for key in dict.fromkeys((*POSITIVE_LISTS, *WHOLE_LISTS)):
        for value in flat[key]:
            if type(value) not in (int, float) or not math.isfinite(value):
                raise UserError(f"{source}: config.{key}: {value!r} should be a number")
            if key in WHOLE_LISTS and (value != int(value) or value < 0):
                raise UserError(f"{source}: config.{key}: {value!r} should be a whole number")
            if key in POSITIVE_LISTS and not value > 0:
                raise UserError(f"{source}: config.{key}: {value!r} should be positive")


def _check_combinations(c: Any, source: str) -> None:
    def refuse(message: str):
        raise UserError(f"{source}: {message}")

    m = c.model
    check_model.check(c, refuse)
    if said := check_data.problem(c.data, _defaults()):
        refuse(said)
    if c.train.steps_per_dispatch % c.train.log_every:
        refuse(
            f"config.train.log_every={c.train.log_every} should divide "
            f"config.train.steps_per_dispatch={c.train.steps_per_dispatch}"
        )
    on_ladder = ("compute", "params", "ladder", "hyper", "design")
    heads = m.kind == "transformer" and c.sweep.kind in on_ladder
    if heads and c.sweep.width_multiple % (c.sweep.heads or m.head_dim):
        refuse(
            f"config.sweep.width_multiple={c.sweep.width_multiple} should be a multiple of "
            f"config.sweep.heads={c.sweep.heads}, or where that is 0 of "
            f"config.model.head_dim={m.head_dim}"
        )
    if c.sweep.width_ratio <= 1:
        refuse(f"config.sweep.width_ratio={c.sweep.width_ratio} should be above 1")
    if len(c.sweep.grid_keys) != len(c.sweep.grid_values):
        refuse("config.sweep.grid_keys and config.sweep.grid_values should have equal lengths")
    if c.sweep.kind == "design" and not c.sweep.design_file:
        refuse("config.sweep.design_file is empty; name the CSV that `scaling design --out` wrote")
    if c.optim.cooldown == "merge" and c.optim.schedule != "wsd":
        refuse(
            f"config.optim.cooldown='merge' replaces the decay of config.optim.schedule='wsd'; "
            f"{c.optim.schedule!r} has none that could be"
        )
    if c.optim.label_smoothing == 1:
        refuse("config.optim.label_smoothing=1 leaves nothing of the target; choose below 1")
    if c.sweep.halving and c.sweep.kind not in ("none", "grid", "random", "hyper"):
        refuse(
            f"config.sweep.halving={c.sweep.halving}: a sweep of kind {c.sweep.kind!r} needs all of its "
            "runs; halving is for grid, random and hyper"
        )
    if c.sweep.halving == 1:
        refuse("config.sweep.halving=1 stops no run; give 2 or more, or 0 for none")
    if c.sweep.halving and not c.sweep.halving_tokens:
        refuse("config.sweep.halving_tokens is 0; give the tokens of the first rung")
    if 0 < c.laws.holdout_factor <= 1:
        refuse(f"config.laws.holdout_factor={c.laws.holdout_factor} should be above 1, or 0")
    for pair in c.launch.resources:
        if not (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and type(pair[1]) in (int, float)
            and pair[1] > 0
        ):
            refuse(f'config.launch.resources: {pair!r} should be a name and an amount, ("TPU", 4)')
    if not all(isinstance(line, str) for line in c.launch.setup):
        refuse(f"config.launch.setup={c.launch.setup!r} should be lines of a shell")
    # A sweep replaces lengths run by run; lengths of a single run are checked as they stand.
    if c.sweep.kind == "none":
        merge_steps(c)


def targets_per_row(c: ConfigDict) -> int:
    """Targets of one row of a batch: positions of a sequence, or the label of an example."""
    return c.data.seq_len if c.data.field in SEQUENCES else 1


def held_out_rows(c: ConfigDict) -> int:
    """Rows of an evaluation where the validation split has as many: windows of text, else examples or users."""
    return max(1, c.eval.tokens // (c.data.seq_len if c.data.field == "language" else 1))


def tokens_per_step(c: ConfigDict) -> int:
    """In the unit of the field, see scaling/fields/."""
    return c.train.batch_size * targets_per_row(c)


def schedule_steps(c: ConfigDict) -> dict[str, int]:
    """Steps of the whole run, of the warm-up and of the decay, from durations in tokens.

    Raises UserError where the run has no whole step or its parts do not fit.
    """
    per_step = tokens_per_step(c)
    total = round(c.train.tokens / per_step)
    if total < 1:
        raise UserError(
            f"config.train.tokens={c.train.tokens} is less than one step of {per_step} tokens; "
            "lower config.train.batch_size or raise the budget"
        )
    warmup_tokens = c.optim.warmup_tokens or c.optim.warmup_fraction * c.train.tokens
    warmup = round(warmup_tokens / per_step)
    decay = round(c.optim.decay_fraction * total) if c.optim.schedule == "wsd" else 0
    if warmup + decay > total:
        raise UserError(
            f"config.optim: warm-up ({warmup} steps) and decay ({decay}) are longer than the run "
            f"({total}); lower warmup_tokens or decay_fraction"
        )
    return {"total": total, "warmup": warmup, "decay": decay}


def merge_steps(c: ConfigDict) -> tuple[int, ...]:
    """The steps whose checkpoints are averaged at the end of a run, the last step among them; () for none.

    They lie evenly over what would be the decay, all but the last on logged steps. Raises UserError
    where it holds too few of those, and as `schedule_steps` does.
    """
    steps, every = schedule_steps(c), c.train.log_every
    if c.optim.cooldown != "merge":
        return ()
    gaps, begin = c.optim.merge_checkpoints - 1, steps["total"] - steps["decay"]
    apart = steps["decay"] / max(1, gaps)
    found = [*(round((begin + apart * i) / every) * every for i in range(gaps)), steps["total"]]
    if gaps < 1 or found[0] < 1 or any(a >= b for a, b in itertools.pairwise(found)):
        raise UserError(
            f"config.optim.merge_checkpoints={c.optim.merge_checkpoints}: give at least 2, that the last "
            f"{steps['decay']} of {steps['total']} steps (config.optim.decay_fraction), logged every {every}, "
            "have room for"
        )
    return tuple(found)


def to_json(c: ConfigDict) -> dict[str, Any]:
    """What files hold: the config and the number of their schema."""
    return {"schema": SCHEMA, **json.loads(json.dumps(c.to_dict(), default=list))}


def from_json(values: dict[str, Any], source: str | Path = "config") -> ConfigDict:
    """Inverse of `to_json`: lists become tuples again, keys younger than the file get their default.

    Raises UserError naming `source` where a newer version wrote it, or where the config is a bad one.
    """

    def tuples(value):
        if isinstance(value, dict):
            return {k: tuples(v) for k, v in value.items()}
        return tuple(tuples(v) for v in value) if isinstance(value, list) else value

    refuse_newer(values, source)
    filled = nested(_defaults())
    for key, value in tuples({k: v for k, v in values.items() if k != "schema"}).items():
        inner = filled.get(key)
        filled[key] = {**inner, **value} if isinstance(inner, dict) else value
    return from_dict(filled, str(source))


def nearest(key: str, known) -> str:
    """The end of an error about an unknown key: the known one that it resembles, if any."""
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean config.{near[0]}?" if near else "; see configs/base.py"
