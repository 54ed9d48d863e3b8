"""State the conditions of a curve: the recipe of its runs, and the conventions of N and FLOPs.

A law depends on learning rate, warm-up, decay and batch size, and on whether N includes embeddings
(Porian et al. 2024; Pearce & Song 2024). Every curve states them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from scaling.config import field_traits
from scaling.recipes import describe, fitted, registry
from scaling.results import RunResult
from scaling.utils.errors import UserError

TERMS = ("label_smoothing", "z_loss", "focal_gamma")  # of config.optim, beside the cross-entropy
SWEPT = "swept"  # in place of a value that differs between the runs
# What a position sees of its window, by field, if it is not all of one example or user.
SEEN = {"language": "attention crosses documents within a window"}
DECAYED = "all but norm scales and LRU eigenvalues"
COUNTED = {
    "n_params": "N counts neither embeddings nor head",
    "n_params_active": "N counts neither embeddings nor head, and of experts those that a token "
    "uses",
    "n_params_with_head": "N counts the head, not the embedding",
    "n_params_total": "N counts all parameters",
}


def stated(rows: Sequence[RunResult], config: ConfigDict) -> dict[str, Any]:
    """Return the recipe of finished runs. A value that differs is [smallest, largest].

    Warm-up and decay are fractions of each run. Batch and context are in tokens.
    """
    swept = _swept(config)
    head = "tied to the embedding" if config.model.tied_head else "a matrix of its own"
    return {
        "optimizer": SWEPT if "optim.name" in swept else config.optim.name,
        "objective": {
            key: SWEPT if f"optim.{key}" in swept else config.optim[key]
            for key in TERMS
            if config.optim[key] or f"optim.{key}" in swept
        },
        "lr": _span([r.lr for r in rows]),
        "schedule": sorted({r.schedule for r in rows}),
        "warmup_fraction": _span([r.warmup_tokens / r.tokens for r in rows]),
        "decay_fraction": _span([r.decay_tokens / r.tokens for r in rows]),
        "batch_tokens": _span([r.batch_tokens for r in rows]),
        "weight_decay": _span([r.weight_decay for r in rows]),
        "decayed": DECAYED,
        "seq_len": _span([r.seq_len for r in rows]),
        "documents": _seen(config, swept),
        "vocab_size": _span([r.vocab_size for r in rows]),
        "seeds": sorted({r.seed for r in rows}),
        "eval_tokens": _span([r.eval_tokens for r in rows if r.eval_tokens is not None]),
        "unit": field_traits.UNITS[config.data.field],
        "embedding": COUNTED[config.laws.n_params],
        "head": SWEPT if "model.tied_head" in swept else head,
        "flops": config.laws.flops,
        "rule": rule(config),
    }


def rule(config: ConfigDict) -> dict[str, Any] | None:
    """Return the recipe that chose settings run by run, None without one.

    A fitted recipe whose file is gone is stated by its name: the runs hold its values.
    """
    try:
        recipe = registry.of_sweep(config.sweep)
    except UserError as error:
        sets = list(fitted.SETS)
        return {"name": config.sweep.recipe, "equation": "", "source": str(error), "sets": sets}
    return describe.as_dict(recipe) if recipe else None


def set_by_rule(config: ConfigDict) -> set[str]:
    """Return the config keys that a recipe, and not a search, gives several values."""
    stated = rule(config)
    return {describe.KEYS[name] for name in stated["sets"]} - _swept(config) if stated else set()


def _seen(config: ConfigDict, swept: set[str]) -> str:
    """Return what a position sees beyond its own document, "" if nothing."""
    seen = SEEN.get(config.data.field, "")
    transformer = config.model.kind == "transformer" and "model.kind" not in swept
    return seen if transformer else seen.replace("attention", "a mixer")


def _swept(config: ConfigDict) -> set[str]:
    """Return the keys to which a search gives several values."""
    axes: tuple = ()
    if config.sweep.kind == "grid":
        axes = config.sweep.grid_keys
    elif config.sweep.kind == "random":
        axes = tuple(key for key, *_ in config.sweep.random_ranges)
    return {key for axis in axes for key in ((axis,) if isinstance(axis, str) else axis)}


def two_prices(config: ConfigDict) -> str:
    """Return why budgets and laws do not match if they count FLOPs differently; "" if they do."""
    planned = f"flops_{config.sweep.flops}"
    if planned == config.laws.flops:
        return ""
    return (
        f"budgets are in config.sweep.flops={config.sweep.flops!r} and laws in "
        f"config.laws.flops={config.laws.flops!r}; set both alike, or compare them by "
        "`scaling conventions`"
    )


def in_words(recipe: dict[str, Any]) -> str:
    """Return the recipe as the caption of a picture."""
    seeds = recipe["seeds"]
    terms = [f", {key.replace('_', ' ')} {value:g}" for key, value in recipe["objective"].items()]
    parts = [
        f"{recipe['optimizer']}, lr {_short(recipe['lr'])}{''.join(terms)}",
        f"warm-up {_percent(recipe['warmup_fraction'])}, {' and '.join(recipe['schedule'])} decay "
        f"over {_percent(recipe['decay_fraction'])} of a run",
        f"{_short(recipe['batch_tokens'])} {recipe['unit']} per step, context "
        f"{_short(recipe['seq_len'])}{', ' * bool(recipe['documents'])}{recipe['documents']}",
        f"weight decay {_short(recipe['weight_decay'])} of {recipe['decayed']}",
        f"{recipe['embedding']}; head {recipe['head']}",
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(str(s) for s in seeds[:6])}"
        + (f" and {len(seeds) - 6} more" if len(seeds) > 6 else ""),
    ]
    if stated := recipe["rule"]:
        names = ", ".join(stated["sets"]).replace("_", " ")
        equation = f": {stated['equation']}" if stated["equation"] else ""
        parts.append(f"recipe {stated['name']} sets {names}{equation}")
    return "; ".join(parts)


def _span(values: Sequence[float]) -> list[float]:
    """Return [value] or [smallest, largest], to six digits, or [] without values."""
    distinct = sorted({float(f"{v:.6g}") for v in values})
    return distinct if len(distinct) < 2 else [distinct[0], distinct[-1]]


def _short(span: list[float]) -> str:
    return " to ".join(f"{v:,.0f}" if v >= 1000 else f"{v:.3g}" for v in span)


def _percent(span: list[float]) -> str:
    """Format a span, as one number if its ends agree to a whole percent (steps are rounded)."""
    return " to ".join(dict.fromkeys(f"{v:.0%}" for v in span))
