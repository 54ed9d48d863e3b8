"""Standard, maximal-update and depth-aware parametrisation: all that changes with width and depth.

m_N = width / base_width, m_L = depth / base_depth; for `sp` both are 1, for `mup` m_L is. K is the
size of a head. At the base width and depth every factor below is 1: the run is that of `sp`.

  group    its parameters                 initial variance     step        gradient
  input    embeddings, positions, patches  1 / base_width (a)   1           m_N
  hidden   matrices                        1 / fan-in           see STEP    m_N m_L
  output   heads and routers               1 / base_width       1           m_N
  vector   scales, biases, filters,        as in `sp`           1           m_N m_L
           eigenvalues

  (a) patches 1 / fan-in, their positions .02^2: neither depends on width
  forward: logits of heads and routers / m_N; queries sqrt(base K / K); branches x + F(x) / m_L
  matrices that write into the residual stream: variance / (2 depth), or / (2 base_depth) for
  `completep`

"step" multiplies the optimizer's step, and so the learning rate of a group. Weight decay is not
multiplied: a step still shrinks a parameter by lr weight_decay. "gradient" multiplies the gradient
before clipping and the optimizer (m_L only within blocks). Gradients of wider and deeper models are
smaller by these factors, so eps and the step of SGD then mean what they mean at the base. The norm
that clipping compares is the one that the base model would have, see `norm_weight`.

muP: Yang & Hu 2021; Yang et al. 2022, table 8. CompleteP (alpha = 1): Dey et al. 2025, table 1,
whose eps / (m_N m_L) is the factor of the gradient. A tied head is an input with the forward factor
of a head. `mlp_width` and the number or the size of heads must grow in proportion to width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scaling.models.parameters import ParamInfo
from scaling.utils.registry import OPTIMIZERS

INPUT, HIDDEN, OUTPUT, VECTOR = "input", "hidden", "output", "vector"
# Exponent of m_N in the step of hidden matrices. Steps of AdamW, Lion and SGD have entries of one
# size, those of Adafactor and AdamH follow a matrix's entries, ~ m_N^-1/2; Muon's grow as m_N^1/2,
# so that with -1/2 they are ~ sqrt(fan-out / fan-in). MuonH's keep the norm of the matrix.
STEP = {
    "adamw": -1.0,
    "lion": -1.0,
    "sgd": -1.0,
    "adafactor": -0.5,
    "muon": -0.5,
    "adamh": -0.5,
    "muonh": 0.0,
}


def step_exponent(optimizer: str) -> Any:
    """Return the exponent in `STEP`, or of a plugin's registration; None without a rule."""
    if optimizer in STEP or optimizer not in OPTIMIZERS:
        return STEP.get(optimizer)
    return OPTIMIZERS[optimizer].traits["width_exponent"]


@dataclass(frozen=True)
class Parametrization:
    """The factors of one model."""

    name: str
    m_width: float
    m_depth: float
    width: float  # that initial values of inputs and outputs go by
    depth: float  # that those of residual writers go by
    query: float  # factor of attention's queries

    @property
    def is_base(self) -> bool:
        """Return whether the optimizer's factors are all 1."""
        return self.m_width == self.m_depth == 1

    @property
    def end_std(self) -> float:
        """Return the initial standard deviation of embeddings and heads."""
        return 1 / math.sqrt(self.width)

    def writer_std(self, fan_in: float) -> float:
        """Return that of a matrix that writes into the residual stream."""
        return 1 / math.sqrt(fan_in) / math.sqrt(2 * self.depth)

    def branch(self, y: Any) -> Any:
        """Return the output of a block's half as it is added to the residual stream."""
        return _times(y, 1 / self.m_depth)

    def before_head(self, x: Any) -> Any:
        """Return the input of a head or a router."""
        return _times(x, 1 / self.m_width)

    def queries(self, q: Any) -> Any:
        """Return queries before their product with the keys."""
        return _times(q, self.query)

    def gradient(self, info: ParamInfo) -> float:
        """Return the factor of a parameter's gradient."""
        return self.m_width * (self.m_depth if info.stacked else 1.0)

    def step(self, info: ParamInfo, optimizer: str) -> float:
        """Return the factor of a parameter's step."""
        return self.m_width ** step_exponent(optimizer) if group(info) == HIDDEN else 1.0

    def norm_weight(self, info: ParamInfo) -> float:
        """Return the factor of a scaled gradient's norm in the norm that clipping compares.

        It is sqrt(numbers of this parameter in the base model / numbers here).
        """
        sides = 2 if group(info) == HIDDEN else 1
        if _own_axes(info) == ("head_dim",) and not info.matrix:
            sides = 0  # a scale per number of a head
        size = self.m_width**sides
        return (size * (self.m_depth if info.stacked else 1.0)) ** -0.5


STANDARD = Parametrization("sp", 1.0, 1.0, 1, 1, 1.0)  # factors of the optimizer in `sp`


def of(model: Any) -> Parametrization:
    """Return the factors of a config's `model` section."""
    if model.parametrization == "sp":
        return Parametrization("sp", 1.0, 1.0, model.width, model.depth, 1.0)
    deep = model.parametrization == "completep"
    base_head_dim = model.base_head_dim or model.head_dim
    return Parametrization(
        model.parametrization,
        m_width=model.width / model.base_width,
        m_depth=model.depth / model.base_depth if deep else 1.0,
        width=model.base_width,
        depth=model.base_depth if deep else model.depth,
        query=math.sqrt(base_head_dim / model.head_dim),
    )


def group(info: ParamInfo) -> str:
    """Return the group of a parameter, by its matrix and its axes."""
    if info.matrix:
        return HIDDEN
    axes = _own_axes(info)
    if not info.decay or len(axes) < 2 or "taps" in axes:
        return VECTOR
    return OUTPUT if axes[0] == "embed" else INPUT


def _own_axes(info: ParamInfo) -> tuple[str, ...]:
    """Return the axes of one layer's parameter."""
    return info.axes[1:] if info.stacked else info.axes


def _times(x: Any, factor: float) -> Any:
    """Multiply in float32; a factor of 1 adds no operation to the program."""
    if factor == 1:
        return x
    return (x.astype("float32") * factor).astype(x.dtype)
