"""Build the ladder of model sizes from a constant ratio of widths and the aspect ratios.

    width_k = min_width * width_ratio^k, rounded to width_multiple
    depth_k = max(min_depth, round(width_k / aspect_ratio))
    mlp_k   = mlp_ratio * width_k
    heads   = sweep.heads, or width_k / model.head_dim

No size is chosen by hand, and one line of its config defines the sizes of a study.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ml_collections import ConfigDict

from scaling import accounting
from scaling.config import load as config_lib
from scaling.config.flat_dict import flatten, view
from scaling.utils.errors import UserError

KINDS = ("compute", "params", "ladder", "hyper")  # of sweeps that train rungs
MAX_SIDE = 2**20  # of a rung's width, depth and MLP: no model of today comes near


@dataclass(frozen=True)
class Rung:
    """One size of the ladder."""

    shape: accounting.Shape
    n_params: int  # without embeddings and head
    heads: Mapping[str, int]  # keys of the sizes of heads

    @property
    def width(self) -> int:
        return self.shape.width

    def values(self) -> dict[str, int]:
        """Return the config keys and values of a model of this size."""
        return {
            "model.width": self.shape.width,
            "model.depth": self.shape.depth,
            "model.mlp_width": self.shape.mlp_width,
            **self.heads,
        }


def ladder(config: ConfigDict) -> list[Rung]:
    """Return distinct rungs in order of size. Raises UserError if rounding merges all into one."""
    s = config.sweep
    rungs: dict[int, Rung] = {}

    def exact_width(k: int) -> float:
        return s.min_width * s.width_ratio**k

    for k in range(s.rungs):
        width = _side("width_ratio", s, functools.partial(exact_width, k))
        width = max(1, round(width / s.width_multiple)) * s.width_multiple
        if width not in rungs:
            rungs[width] = rung_of_width(config, width)
    if len(rungs) < 2 and s.rungs > 1:
        raise UserError(
            f"config.sweep: all {s.rungs} rungs have width {next(iter(rungs))}; raise width_ratio "
            "or lower width_multiple"
        )
    return list(rungs.values())


def merged(config: ConfigDict) -> str:
    """Return how many rungs rounding merged, with the keys to change; "" if none or no ladder."""
    s = config.sweep
    if s.kind not in KINDS:
        return ""
    sizes = len(ladder(config))
    if sizes == s.rungs:
        return ""
    return (
        f"config.sweep.rungs={s.rungs} are {sizes} sizes: {s.rungs - sizes} round to the width of "
        f"another; raise config.sweep.width_ratio={s.width_ratio:g} or lower "
        f"width_multiple={s.width_multiple}"
    )


def rung_of_width(config: ConfigDict, width: int) -> Rung:
    """Return the rung of a given width, on or off the ladder."""
    s = config.sweep
    depth = max(s.min_depth, round(_side("aspect_ratio", s, lambda: width / s.aspect_ratio)))
    mlp_width = round(_side("mlp_ratio", s, lambda: s.mlp_ratio * width))
    size = {
        "model.width": width,
        "model.depth": depth,
        "model.mlp_width": mlp_width,
        **heads(config, width),
    }
    shape = accounting.shape_of(view(config_lib.replaced(flatten(config), size)))
    return Rung(shape, accounting.param_counts(shape)["n_params"], heads(config, width))


def heads(config: ConfigDict, width: int) -> dict[str, int]:
    """Return the keys of the sizes of heads: of one size, or config.sweep.heads of them."""
    m, number = config.model, config.sweep.heads
    if not number:
        return {"model.head_dim": m.head_dim}
    if m.parametrization == "sp":
        return {"model.head_dim": width // number}
    return {"model.head_dim": width // number, "model.base_head_dim": m.base_width // number}


def _side(key: str, s: ConfigDict, side: Callable[[], float]) -> float:
    """Return a width or depth that follows from config.sweep.`key`; refuse more than MAX_SIDE."""
    try:
        value = side()
    except OverflowError:
        value = math.inf
    if value > MAX_SIDE:
        raise UserError(
            f"config.sweep.{key}={s[key]:g}: a rung has a side of {value:.3g}, and no more than "
            f"{MAX_SIDE:,} are planned; lower config.sweep.rungs, or choose another ratio"
        )
    return value
