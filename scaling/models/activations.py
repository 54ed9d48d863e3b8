"""The activations of MLPs by name: how many input matrices each takes, and its hidden layer.

The MLP, the experts, the counts of parameters and FLOPs, and the estimate of memory take the number
of matrices from here. Functions import jax when called, since counting needs no jax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.utils.registry import MLPS


@dataclass(frozen=True)
class Activation:
    """One kind of MLP: h = function of the products of its input with `inputs` matrices."""

    inputs: int  # G, matrices from the width to the hidden width; 2 if one gates the other
    function: Callable[[Sequence[Any]], Any]  # G arrays [..., F] -> [..., F]


@MLPS.register("gelu")
def _gelu(h):
    from scaling.models import pointwise

    return pointwise.gelu(h[0])


@MLPS.register("relu2")
def _relu2(h):
    """Squared ReLU (So et al. 2021)."""
    import jax
    import jax.numpy as jnp

    return jnp.square(jax.nn.relu(h[0]))


@MLPS.register("swiglu", inputs=2)
def _swiglu(h):
    """SwiGLU (Shazeer 2020)."""
    import jax

    return jax.nn.silu(h[0]) * h[1]


def check(model: Any) -> None:
    """Try the activation on the shapes of `config.model`. Raises UserError as `of` does."""
    import jax

    activation = of(model.mlp)
    h_F = jax.ShapeDtypeStruct((1, model.mlp_width), model.dtype)
    jax.eval_shape(activation.function, [h_F] * activation.inputs)


def of(name: str) -> Activation:
    """Return the activation of `config.model.mlp`. Raises UserError for one not registered."""
    entry = MLPS[name]
    inputs = entry.traits["inputs"]
    if type(inputs) is not int or inputs < 1:
        raise entry.error(f"inputs={inputs!r} should be the number of its input matrices")

    def hidden(h):
        y = entry(h)
        form = (getattr(y, "shape", None), getattr(y, "dtype", None))
        if form != (h[0].shape, h[0].dtype):
            raise entry.error(f"returned {form} for arrays of {(h[0].shape, h[0].dtype)}")
        return y

    return Activation(inputs, hidden)
