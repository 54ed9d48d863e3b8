"""GeGLU (Shazeer 2020): --config.plugins=geglu --config.model.mlp=geglu."""

import jax

from scaling.utils.registry import MLPS


@MLPS.register("geglu", inputs=2)  # two input matrices and one output matrix of D x F
def geglu(h):
    """Return the hidden layer [..., F] from its two products, each [..., F]."""
    return jax.nn.gelu(h[0]) * h[1]
