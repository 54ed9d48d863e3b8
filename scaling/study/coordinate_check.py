"""Check how the outputs of layers follow width and depth after a few steps (Yang et al. 2022,
appendix D.1): under a right parametrisation they stay of one size.

They are never checked at the start, where every parametrisation looks alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.config.check_model import LADDERS
from scaling.laws import distributions
from scaling.sweep.plan import ladder
from scaling.training import layer_outputs
from scaling.utils import signals
from scaling.utils.errors import UserError

FLAT, FLAT_INTERVAL = 0.1, 0.2  # largest |slope| and largest end of its interval of a flat size
CONFIDENCE = 0.9
# The last block's residual stream, its halves and the logits: what a blow-up reaches.
JUDGED = ("block", "block.attention", "block.mixer", "block.mlp", "block.experts", "outputs")


@dataclass(frozen=True)
class Slope:
    """How one layer's output follows one side: d log mean |x| / d log side, with its interval."""

    side: str  # width or depth
    layer: str
    quantity: str  # size, or update: of the output since the start
    value: float
    low: float
    high: float

    @property
    def trend(self) -> str:
        """Return "grows", "falls", "flat", "unclear" where seeds differ too much, or "diverged"."""
        if np.isnan(self.value):
            return "diverged"
        if self.low > FLAT:
            return "grows"
        if self.high < -FLAT:
            return "falls"
        within = max(abs(self.low), abs(self.high)) <= FLAT_INTERVAL
        return "flat" if abs(self.value) <= FLAT and within else "unclear"


@dataclass(frozen=True)
class Check:
    """The measured sizes and their slopes."""

    columns: dict[str, np.ndarray]  # side, value, seed, layer, size, update
    slopes: list[Slope]

    def judged(self, side: str) -> list[Slope]:
        """Return the slopes of sizes that the verdict goes by."""
        return [
            s for s in self.slopes if s.side == side and s.quantity == "size" and s.layer in JUDGED
        ]

    def verdict(self, side: str) -> str:
        """Return one line: what grows, or that nothing does."""
        slopes = self.judged(side)
        if any(s.trend == "diverged" for s in slopes):
            return f"{side}: {self._diverged(side)}: lower config.optim.lr"
        if growing := [s for s in slopes if s.trend == "grows"]:
            worst = max(growing, key=lambda s: s.value)
            return (
                f"{side}: {worst.layer} grows as {side}^{worst.value:.2f} [{worst.low:.2f}, "
                f"{worst.high:.2f}]: hyperparameters will not transfer"
            )
        unclear = [s.layer for s in slopes if not s.high <= FLAT_INTERVAL]
        if unclear:
            return f"{side}: {', '.join(unclear)} unclear: give more --seeds or more sizes"
        return f"{side}: no size grows"

    @property
    def diverged(self) -> bool:
        """Return whether an output is no finite number."""
        return any(s.trend == "diverged" for s in self.slopes)

    def _diverged(self, side: str) -> str:
        """Name the first size, seed and layer whose output is no finite number."""
        c = self.columns
        rows = (c["side"] == side) & ~(np.isfinite(c["size"]) & np.isfinite(c["update"]))
        first = np.flatnonzero(rows)[0]
        return (
            f"{c['layer'][first]} diverged at {side} {c['value'][first]}, seed {c['seed'][first]}"
        )


def sized(config: ConfigDict, width: int, depth: int) -> ConfigDict:
    """Return the config at another width and depth; its MLP and its heads grow in proportion.

    Heads keep their size, or their number where config.sweep.heads or base_head_dim says so.
    """
    m, heads = config.model, config.sweep.heads if config.sweep.kind in LADDERS else None
    values = {
        "model.width": width,
        "model.depth": depth,
        "model.mlp_width": max(1, round(m.mlp_width * width / m.width)),
        "sweep.kind": "none",
    }
    if heads:
        values |= ladder.heads(config, width)
    elif m.base_head_dim:
        values["model.head_dim"] = max(1, round(m.base_head_dim * width / m.base_width))
    elif m.heads:
        values["model.heads"] = max(1, round(m.heads * width / m.width))
    return config_lib.with_values(config, values)


def check(
    config: ConfigDict,
    widths: Sequence[int],
    depths: Sequence[int],
    steps: int,
    seeds: int,
    on_size: Callable[[str], None] = lambda text: None,
) -> Check:
    """Train `steps` steps at every width (at the config's depth) and depth (at its width).

    `on_size` is called after each size with a line about it. Raises UserError where a side has
    fewer than two different sizes, or a size is no model.
    """
    m = config.model
    sides = {"width": [(w, m.depth) for w in widths], "depth": [(m.width, d) for d in depths]}
    configs: dict[tuple[str, tuple[int, int]], ConfigDict] = {}
    for side, shapes in sides.items():
        if shapes and len(set(shapes)) < 2:
            raise UserError(f"--{side}s: name two different sizes at least, to see a trend")
        configs |= {(side, shape): sized(config, *shape) for shape in shapes}  # checks them all
    rows: list[tuple] = []
    measured: dict[tuple[int, int], list[layer_outputs.Sizes]] = {}
    for (side, shape), sized_config in configs.items():
        signals.check()
        if shape not in measured:
            measured[shape] = layer_outputs.after_steps(sized_config, steps, seeds)
            on_size(f"width {shape[0]}, depth {shape[1]}: {seeds} seeds, {steps} steps")
        for seed, sizes in enumerate(measured[shape]):
            value = shape[side == "depth"]
            rows += [(side, value, seed, layer, *pair) for layer, pair in sizes.items()]
    names = ("side", "value", "seed", "layer", "size", "update")
    columns = {n: np.array(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)}
    return Check(columns, _slopes(columns))


def _slopes(columns: dict[str, np.ndarray]) -> list[Slope]:
    slopes = []
    for side, layer in dict.fromkeys(zip(columns["side"], columns["layer"], strict=True)):
        rows = (columns["side"] == side) & (columns["layer"] == layer)
        for quantity in ("size", "update"):
            ends = _line(np.log(columns["value"][rows]), columns[quantity][rows])
            slopes.append(Slope(str(side), str(layer), quantity, *ends))
    return slopes


def _line(x: np.ndarray, size: np.ndarray) -> tuple[float, float, float]:
    """Return the slope of log size in x and the ends of its interval.

    Without degrees of freedom the interval is infinite. All are NaN if a size is not finite, or 0.
    """
    if not (np.isfinite(size).all() and (size > 0).all()):
        return float("nan"), float("nan"), float("nan")
    x, y, freedom = x - x.mean(), np.log(size), len(x) - 2
    slope = float(x @ y / (x @ x))
    if freedom < 1:
        return slope, -float("inf"), float("inf")
    rest = y - y.mean() - slope * x
    error = float(np.sqrt(rest @ rest / freedom / (x @ x)))
    half = error * float(distributions.t_quantile((1 + CONFIDENCE) / 2, freedom))
    return slope, slope - half, slope + half
