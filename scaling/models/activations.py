"""The activations of MLPs by name: how many input matrices each takes, and its hidden layer.

The one table of them. The MLP, the experts, the counts of parameters and FLOPs, and the estimate of
memory take the number of matrices from it. Functions import jax when called, since counting needs
no jax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.utils.errors import UserError


@dataclass(frozen=True)
class Activation:
    """One kind of MLP: h = function of the products of its input with `inputs` matrices."""

    inputs: int  # G, matrices from the width to the hidden width; 2 if one gates the other
    function: Callable[[Sequence[Any]], Any]  # G arrays [..., F] -> [..., F]


def _gelu(h):
    from scaling.models import pointwise

    return pointwise.gelu(h[0])


def _relu2(h):
    """Squared ReLU (So et al. 2021)."""
    import jax
    import jax.numpy as jnp

    return jnp.square(jax.nn.relu(h[0]))


def _swiglu(h):
    """SwiGLU (Shazeer 2020)."""
    import jax

    return jax.nn.silu(h[0]) * h[1]


# config.model.mlp -> its activation. `configs/base.py` lists the names, too.
ACTIVATIONS = {
    "gelu": Activation(1, _gelu),
    "swiglu": Activation(2, _swiglu),
    "relu2": Activation(1, _relu2),
}


def of(name: str) -> Activation:
    """Return the activation of `config.model.mlp`. Raises UserError for one not in the table."""
    if name not in ACTIVATIONS:
        raise UserError(
            f"config.model.mlp={name!r}: not in ACTIVATIONS of scaling/models/activations.py, "
            f"which has {', '.join(ACTIVATIONS)}; add it there with its number of input matrices"
        )
    return ACTIVATIONS[name]
