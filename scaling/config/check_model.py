"""Check that the keys of a config's `model` section fit together, and fit the data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from scaling.config.field_traits import LABELLED

# Kinds of sweep whose widths are rungs.
LADDERS = ("compute", "params", "ladder", "hyper", "design")


def problems(c: Any) -> Iterator[str]:
    """Yield a line for each combination that makes no model; `c` has a config's attributes."""
    m = c.model
    if m.kind == "transformer" and not m.heads and m.width % m.head_dim:
        yield (
            f"config.model.width={m.width} is not a multiple of config.model.head_dim={m.head_dim}"
        )
    if m.kind == "transformer" and m.positions == "rotary" and m.head_dim % 2:
        yield (f"config.model.head_dim={m.head_dim} must be even for rotary positions")
    if m.kind == "transformer" and m.parametrization != "sp" and not m.heads:
        yield from _of_base(m, c.sweep)
    if m.kind != "transformer" and m.qk_norm:
        yield (f"config.model.qk_norm=True: config.model.kind={m.kind!r} has no queries and keys")
    yield from _of_heads(m, c.sweep)
    yield from _of_biases(m)
    if m.kind == "cnn" and m.kernel % 2 == 0:
        yield (
            f"config.model.kernel={m.kernel} should be odd, so that it has a middle; "
            f"{m.kernel - 1} and {m.kernel + 1} are nearest"
        )
    if c.data.field in LABELLED:
        if m.tied_head:
            yield (
                f"config.model.tied_head=True: {c.data.field} has no embedding to tie the head to"
            )
        if m.kind != "mlp":
            for key, patch in (("height", m.patch_height), ("width", m.patch_width)):
                if getattr(c.data, key) % patch:
                    yield (
                        f"config.model.patch_{key}={patch} does not divide "
                        f"config.data.{key}={getattr(c.data, key)}"
                    )
    if c.data.field == "recommend" and c.train.accumulate > 1:
        yield (
            f"config.train.accumulate={c.train.accumulate} would weigh micro-batches by their "
            "padding and change the numbers; choose 1 for config.data.field='recommend'"
        )
    if m.experts and m.experts_per_token > m.experts:
        yield (
            f"config.model.experts_per_token={m.experts_per_token} is more than "
            f"config.model.experts={m.experts}; the most is {m.experts}, and 0 experts are dense"
        )
    if m.experts and m.balance and c.train.accumulate > 1:
        yield (
            f"config.train.accumulate={c.train.accumulate} would balance the experts of each "
            "micro-batch alone and change the numbers; choose 1, or config.model.balance=0"
        )


def _of_heads(m: Any, sweep: Any) -> Iterator[str]:
    """Yield a line if the numbers of heads fit neither each other nor the kind of model."""
    for key in ("heads", "kv_heads"):
        if (number := getattr(m, key)) and m.kind != "transformer":
            yield f"config.model.{key}={number}: config.model.kind={m.kind!r} has no heads"
    ladder = sweep.kind in LADDERS
    if m.heads and ladder:
        yield (
            f"config.model.heads={m.heads}: sizes of config.sweep.kind={sweep.kind!r} have "
            "width / head_dim heads, or config.sweep.heads; set config.model.heads=None"
        )
    heads = (ladder and sweep.heads) or m.heads or m.width // m.head_dim
    if m.kv_heads and heads % m.kv_heads:
        yield (
            f"config.model.kv_heads={m.kv_heads} does not divide the {heads} query heads; "
            f"{math.gcd(heads, m.kv_heads)} does"
        )


def _of_biases(m: Any) -> Iterator[str]:
    """Yield a line if the model has no such biases."""
    if m.bias != "none" and m.kind != "transformer":
        yield f"config.model.bias={m.bias!r}: config.model.kind={m.kind!r} has no biases"
    if m.bias == "all" and m.experts:
        yield "config.model.bias='all': experts have no biases; choose 'qkv' or 'none'"


def _of_base(m: Any, sweep: Any) -> Iterator[str]:
    """Yield a line if the base model of a parametrisation has no whole number of heads."""
    base = f"config.model.base_width={m.base_width}"
    if sweep.kind in LADDERS and sweep.heads:
        if m.base_width % sweep.heads:
            yield f"{base} is not a multiple of config.sweep.heads={sweep.heads}"
        return
    key = "base_head_dim" if m.base_head_dim else "head_dim"
    if m.base_width % getattr(m, key):
        yield f"{base} is not a multiple of config.model.{key}={getattr(m, key)}"
