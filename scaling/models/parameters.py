"""Create parameters with their metadata, and lay them out as the tree that checkpoints hold.

Each parameter states where it is created its logical axes, the matrix that it multiplies by, and
whether weight decay applies to it. Sharding and optimizers read that and no names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

LAYERS = "layers"  # the axis that stacks the blocks' parameters
# Attributes of a model whose parameters a checkpoint holds at its root.
ENDS = ("inputs", "outputs")


class Matrix(NamedTuple):
    """The axes of a parameter's matrix, counted from the last.

    All other axes stack matrices: layers, experts, or the query, key and value of one array.
    """

    summed: tuple[int, ...]  # those that the product sums over
    result: tuple[int, ...]  # those of its result

    @property
    def axes(self) -> tuple[int, ...]:
        """Return all axes of the matrix."""
        return (*self.summed, *self.result)


@dataclass(frozen=True)
class ParamInfo:
    """The metadata of one parameter."""

    axes: tuple[str, ...]  # a logical axis per dimension, see scaling/parallel/sharding.py
    matrix: Matrix | None  # None: no matrix, as are embeddings, heads and vectors
    decay: bool  # whether weight decay applies

    @property
    def stacked(self) -> bool:
        """Return whether the first axis stacks layers."""
        return self.axes[0] == LAYERS


def normal_param(
    rngs: nnx.Rngs, shape, std: float, axes: tuple[str, ...], dtype, matrix: Matrix | None
) -> nnx.Param:
    """Draw a parameter ~ Normal(0, std^2), in float32 before it is cast to `dtype`."""
    value = std * jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param(value.astype(dtype), out_sharding=axes, matrix=matrix, decay=True)


def vector_param(value: jax.Array, *axes: str) -> nnx.Param:
    """Return a scale, a bias or an eigenvalue per channel: no matrix, without weight decay.

    Channels may have several axes, as heads and the size of a head.
    """
    return nnx.Param(value, out_sharding=axes, matrix=None, decay=False)


def bias_param(shape: tuple[int, ...], dtype, *axes: str) -> nnx.Param:
    """Return a bias per channel, zero at the start."""
    return vector_param(jnp.zeros(shape, dtype), *axes)


def info(variable: nnx.Variable) -> ParamInfo:
    """Return the metadata of a parameter that `normal_param` or `vector_param` created."""
    metadata = variable.get_metadata()
    missing = [key for key in ("out_sharding", "matrix", "decay") if key not in metadata]
    if missing:
        raise ValueError(
            f"a parameter states no {', '.join(missing)}; create it by normal_param or vector_param"
        )
    return ParamInfo(metadata["out_sharding"], metadata["matrix"], metadata["decay"])


def to_tree(state: nnx.State, leaf: Callable[[nnx.Variable], Any] = nnx.Variable.get_value) -> Any:
    """Nested dicts of `leaf` of each parameter of a model, with those of `ENDS` at the root.

    Checkpoints hold this tree: a model's parts may move between modules while files stay readable.
    """
    tree = nnx.to_pure_dict(state, extract_fn=leaf)
    for end in ENDS:
        part = tree.pop(end, {})
        assert not tree.keys() & part.keys(), "two parameters of one name at the root"
        tree |= part
    return tree


def from_tree(tree: Any, like: nnx.State) -> nnx.State:
    """Return the inverse of `to_tree`: a state as `like` with the arrays of `tree`."""
    nested = dict(tree)
    for end in ENDS:
        if end in like:
            nested[end] = {name: nested.pop(name) for name in like[end]}
    state = jax.tree.map(lambda x: x, like)  # a copy; the next line writes into it
    nnx.replace_by_pure_dict(state, nested)
    return state
