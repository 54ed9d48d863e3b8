"""Norms, attention and the MLP.

Shapes: B batch, T positions, D model width, H heads, K head size, X the three of query, key and
value, F hidden width of the MLP, G number of its input matrices, see `activations.py`.

Initialisation: matrices ~ Normal(0, 1/fan_in); those that write into the residual stream are also
divided by sqrt(2 * depth) (GPT-2), so that its variance does not grow with depth; see
`parametrization.py` for other ways.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import activations, logical_axes, ops, parametrization, pointwise
from scaling.models.parameters import Matrix, normal_param, vector_param


class Norm(nnx.Module):
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm without bias, computed in float32."""

    def __init__(self, size: int, axis: str, *, kind: str, eps: float, dtype):
        self.scale = vector_param(jnp.ones((size,), dtype), axis)
        self.centre = kind == "layernorm"
        self.eps = eps

    def __call__(self, x):
        return pointwise.normalise(x, self.scale[...], self.eps, self.centre)


def rotate(x_BTHK, base: float):
    """Rotary position embedding (Su et al. 2021), halves rotated as in Llama; angles in float32."""
    T, K = x_BTHK.shape[1], x_BTHK.shape[3]
    frequency_k = base ** (-jnp.arange(0, K, 2, dtype=jnp.float32) / K)
    angle_Tk = jnp.arange(T, dtype=jnp.float32)[:, None] * frequency_k[None, :]
    cos_T1k, sin_T1k = jnp.cos(angle_Tk)[:, None, :], jnp.sin(angle_Tk)[:, None, :]
    a_BTHk, b_BTHk = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate(
        [a_BTHk * cos_T1k - b_BTHk * sin_T1k, b_BTHk * cos_T1k + a_BTHk * sin_T1k], axis=-1
    )
    return rotated.astype(x_BTHK.dtype)


class Attention(nnx.Module):
    """Multi-head self-attention without biases; optional QK-norm (Dehghani et al. 2023)."""

    W_IN = ("embed", "heads", "qkv", "head_dim")
    W_OUT = ("heads", "head_dim", "embed")

    def __init__(self, model, *, causal: bool = True, rngs: nnx.Rngs):
        D, H, K = model.width, model.width // model.head_dim, model.head_dim
        dtype = jnp.dtype(model.param_dtype)
        scales = parametrization.of(model)
        self.w_DHXK = normal_param(
            rngs, (D, H, 3, K), 1 / math.sqrt(D), self.W_IN, dtype, Matrix((-4,), (-3, -1))
        )
        self.w_HKD = normal_param(
            rngs, (H, K, D), scales.writer_std(D), self.W_OUT, dtype, Matrix((-3, -2), (-1,))
        )
        norm = dict(kind="rmsnorm", eps=model.norm_eps, dtype=dtype)
        self.q_norm = Norm(K, "head_dim", **norm) if model.qk_norm else None
        self.k_norm = Norm(K, "head_dim", **norm) if model.qk_norm else None
        self.rope_base = model.rope_base if model.positions == "rotary" else None
        self.matmul, self.attention, self.causal = model.matmul, model.attention, causal
        self.scales = scales

    def __call__(self, x_BTD):
        B, T, D = x_BTD.shape
        w_DHXK = logical_axes.gathered(self.w_DHXK[...].astype(x_BTD.dtype), *self.W_IN)
        w_HKD = logical_axes.gathered(self.w_HKD[...].astype(x_BTD.dtype), *self.W_OUT)
        qkv = ops.matmul(x_BTD, w_DHXK.reshape(D, -1), self.matmul)
        qkv_BTHXK = logical_axes.constrain(
            qkv.reshape(B, T, *w_DHXK.shape[1:]), "batch", "sequence", "heads", "qkv", "head_dim"
        )
        # lax.split, because its transpose is one concatenation and not a sum of padded slices
        q_BTHK, k_BTHK, v_BTHK = (a[:, :, :, 0] for a in jax.lax.split(qkv_BTHXK, (1, 1, 1), 3))
        if self.q_norm is not None and self.k_norm is not None:
            q_BTHK, k_BTHK = self.q_norm(q_BTHK), self.k_norm(k_BTHK)
        if self.rope_base is not None:
            q_BTHK, k_BTHK = rotate(q_BTHK, self.rope_base), rotate(k_BTHK, self.rope_base)
        k_BTHK, v_BTHK = (
            logical_axes.constrain(a, "batch", "keys", "heads", "head_dim")
            for a in (k_BTHK, v_BTHK)
        )
        q_BTHK = self.scales.queries(q_BTHK)
        o_BTHK = ops.attention(q_BTHK, k_BTHK, v_BTHK, self.attention, self.causal)
        o_BTHK = logical_axes.constrain(o_BTHK, "batch", "sequence", "heads", "head_dim")
        return ops.matmul(o_BTHK.reshape(B, T, -1), w_HKD.reshape(-1, D), self.matmul)


class MLP(nnx.Module):
    """Two-layer MLP without biases, of any kind in `activations.py`."""

    W_IN = ("embed", "gate", "mlp")
    W_OUT = ("mlp", "embed")

    def __init__(self, model, *, rngs: nnx.Rngs):
        D, F, G = model.width, model.mlp_width, activations.of(model.mlp).inputs
        dtype = jnp.dtype(model.param_dtype)
        self.w_DGF = normal_param(
            rngs, (D, G, F), 1 / math.sqrt(D), self.W_IN, dtype, Matrix((-3,), (-1,))
        )
        out_std = parametrization.of(model).writer_std(F)
        self.w_FD = normal_param(rngs, (F, D), out_std, self.W_OUT, dtype, Matrix((-2,), (-1,)))
        self.kind, self.matmul = model.mlp, model.matmul

    def __call__(self, x_BTD):
        w_DGF = logical_axes.gathered(self.w_DGF[...].astype(x_BTD.dtype), *self.W_IN)
        w_FD = logical_axes.gathered(self.w_FD[...].astype(x_BTD.dtype), *self.W_OUT)
        h = [ops.matmul(x_BTD, w_DGF[:, g], self.matmul) for g in range(w_DGF.shape[1])]
        h_BTF = activations.of(self.kind).function(h)
        h_BTF = logical_axes.constrain(h_BTF, "batch", "sequence", "mlp")
        return ops.matmul(h_BTF, w_FD, self.matmul)
