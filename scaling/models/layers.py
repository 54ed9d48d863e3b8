"""Norms, attention and the MLP.

Shapes: B batch, T positions, D model width, H query heads, N key-value heads, K head size, X the
three of query, key and value or the two of key and value, F hidden width of the MLP, G number of
its input matrices, see `activations.py`.

Initialisation: matrices ~ Normal(0, 1/fan_in); those that write into the residual stream are also
divided by sqrt(2 * depth) (GPT-2), so that its variance does not grow with depth; see
`parametrization.py` for other ways. Biases, see `config.model.bias`, are zero at the start.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import activations, logical_axes, ops, parametrization, pointwise
from scaling.models.heads import heads_of
from scaling.models.parameters import Matrix, bias_param, normal_param, vector_param


class Norm(nnx.Module):
    """RMSNorm (Zhang & Sennrich 2019) or LayerNorm, computed in float32.

    With `bias` a LayerNorm has one; RMSNorm has none.
    """

    def __init__(self, size: int, axis: str, *, kind: str, eps: float, dtype, bias: bool = False):
        self.scale = vector_param(jnp.ones((size,), dtype), axis)
        self.centre = kind == "layernorm"
        self.bias = bias_param((size,), dtype, axis) if bias and self.centre else None
        self.eps = eps

    def __call__(self, x):
        y = pointwise.normalise(x, self.scale[...], self.eps, self.centre)
        return y if self.bias is None else y + _used(self.bias, x, "embed")


def block_norm(model) -> Norm:
    """Return the norm before a half of a block, or before the head."""
    return Norm(
        model.width,
        "embed",
        kind=model.norm,
        eps=model.norm_eps,
        dtype=jnp.dtype(model.param_dtype),
        bias=model.bias == "all",
    )


def _used(param: nnx.Param, x, *names: str):
    """Return a parameter as it is used with `x`: in its dtype, gathered along the width."""
    return logical_axes.gathered(param[...].astype(x.dtype), *names)


def rotate(x_BTHK, base: float, positions_BT=None):
    """Rotary position embedding (Su et al. 2021), halves rotated as in Llama; angles in float32.

    Positions count from 0 unless given.
    """
    T, K = x_BTHK.shape[1], x_BTHK.shape[3]
    frequency_k = base ** (-jnp.arange(0, K, 2, dtype=jnp.float32) / K)
    if positions_BT is None:
        positions_BT = jnp.arange(T)
    angle_Tk = positions_BT.astype(jnp.float32)[..., None] * frequency_k
    cos_T1k, sin_T1k = jnp.cos(angle_Tk)[..., None, :], jnp.sin(angle_Tk)[..., None, :]
    a_BTHk, b_BTHk = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate(
        [a_BTHk * cos_T1k - b_BTHk * sin_T1k, b_BTHk * cos_T1k + a_BTHk * sin_T1k], axis=-1
    )
    return rotated.astype(x_BTHK.dtype)


class Attention(nnx.Module):
    """Multi-head self-attention; optional QK-norm (Dehghani et al. 2023).

    With fewer key-value than query heads it is grouped-query attention (Ainslie et al. 2023): query
    head h uses key-value head h // (H / N). Then queries have an array of their own.
    """

    W_QKV = ("embed", "heads", "qkv", "head_dim")
    W_Q = ("embed", "heads", "head_dim")
    W_OUT = ("heads", "head_dim", "embed")

    def __init__(self, model, *, causal: bool = True, rngs: nnx.Rngs):
        D, K, (H, N) = model.width, model.head_dim, heads_of(model)
        dtype, std = jnp.dtype(model.param_dtype), 1 / math.sqrt(model.width)
        scales, many = parametrization.of(model), Matrix((-4,), (-3, -1))
        self.grouped = N < H
        if self.grouped:
            matrix = Matrix((-3,), (-2, -1))
            self.w_DHK = normal_param(rngs, (D, H, K), std, self.W_Q, dtype, matrix)
            self.w_DNXK = normal_param(rngs, (D, N, 2, K), std, self.W_QKV, dtype, many)
        else:
            self.w_DHXK = normal_param(rngs, (D, H, 3, K), std, self.W_QKV, dtype, many)
        self.w_HKD = normal_param(
            rngs, (H, K, D), scales.writer_std(H * K), self.W_OUT, dtype, Matrix((-3, -2), (-1,))
        )
        self.biased = model.bias != "none"
        if self.biased:
            self.b_HK = bias_param((H, K), dtype, *self.W_Q[1:])
            self.b_NXK = bias_param((N, 2, K), dtype, *self.W_QKV[1:])
        self.b_D = bias_param((D,), dtype, "embed") if model.bias == "all" else None
        norm = dict(kind="rmsnorm", eps=model.norm_eps, dtype=dtype)
        self.q_norm = Norm(K, "head_dim", **norm) if model.qk_norm else None
        self.k_norm = Norm(K, "head_dim", **norm) if model.qk_norm else None
        self.rope_base = model.rope_base if model.positions == "rotary" else None
        self.matmul, self.attention, self.causal = model.matmul, model.attention, causal
        self.scales = scales

    def __call__(self, x_BTD):
        q_BTHK, k_BTNK, v_BTNK = self.heads(x_BTD)
        k_BTNK, v_BTNK = (
            logical_axes.constrain(a, "batch", "keys", "heads", "head_dim")
            for a in (k_BTNK, v_BTNK)
        )
        o_BTHK = ops.attention(q_BTHK, k_BTNK, v_BTNK, self.attention, self.causal)
        return self.output(o_BTHK, x_BTD)

    def heads(self, x_BTD, positions_BT=None):
        """Return the q_BTHK, k_BTNK and v_BTNK that attention takes, normed and rotated."""
        q_BTHK, k_BTNK, v_BTNK = self._projected(x_BTD)
        if self.q_norm is not None and self.k_norm is not None:
            q_BTHK, k_BTNK = self.q_norm(q_BTHK), self.k_norm(k_BTNK)
        if self.rope_base is not None:
            q_BTHK, k_BTNK = (rotate(a, self.rope_base, positions_BT) for a in (q_BTHK, k_BTNK))
        return self.scales.queries(q_BTHK), k_BTNK, v_BTNK

    def output(self, o_BTHK, x_BTD):
        """Return y_BTD of attention's o_BTHK, in the dtype of x_BTD."""
        B, T, D = x_BTD.shape
        w_HKD = _used(self.w_HKD, x_BTD, *self.W_OUT)
        o_BTHK = logical_axes.constrain(o_BTHK, "batch", "sequence", "heads", "head_dim")
        y_BTD = ops.matmul(o_BTHK.reshape(B, T, -1), w_HKD.reshape(-1, D), self.matmul)
        return y_BTD if self.b_D is None else y_BTD + _used(self.b_D, x_BTD, "embed")

    def _projected(self, x_BTD):
        """Return queries q_BTHK, keys k_BTNK and values v_BTNK, with their biases."""
        if self.grouped:
            q_BTHK = self._product(x_BTD, self.w_DHK, self.W_Q)
            k_BTNK, v_BTNK = _parts(self._product(x_BTD, self.w_DNXK, self.W_QKV))
        else:
            q_BTHK, k_BTNK, v_BTNK = _parts(self._product(x_BTD, self.w_DHXK, self.W_QKV))
        if not self.biased:
            return q_BTHK, k_BTNK, v_BTNK
        b_HK, b_NXK = (
            _used(self.b_HK, x_BTD, *self.W_Q[1:]),
            _used(self.b_NXK, x_BTD, *self.W_QKV[1:]),
        )
        return q_BTHK + b_HK, k_BTNK + b_NXK[:, 0], v_BTNK + b_NXK[:, 1]

    def _product(self, x_BTD, param: nnx.Param, names: tuple[str, ...]):
        w = _used(param, x_BTD, *names)
        y = ops.matmul(x_BTD, w.reshape(w.shape[0], -1), self.matmul)
        y = y.reshape(*x_BTD.shape[:2], *w.shape[1:])
        return logical_axes.constrain(y, "batch", "sequence", *names[1:])


def _parts(x_BTHXK):
    """Return the X parts, `[B, T, H, K]` each."""
    # lax.split, because its transpose is one concatenation and not a sum of padded slices
    parts = jax.lax.split(x_BTHXK, (1,) * x_BTHXK.shape[3], 3)
    return (part[:, :, :, 0] for part in parts)


class MLP(nnx.Module):
    """Two-layer MLP of any kind in `activations.py`, with biases if `model.bias` is "all"."""

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
        self.biased = model.bias == "all"
        if self.biased:
            self.b_GF = bias_param((G, F), dtype, *self.W_IN[1:])
            self.b_D = bias_param((D,), dtype, "embed")
        self.kind, self.matmul = model.mlp, model.matmul

    def __call__(self, x_BTD):
        w_DGF, w_FD = _used(self.w_DGF, x_BTD, *self.W_IN), _used(self.w_FD, x_BTD, *self.W_OUT)
        h = [ops.matmul(x_BTD, w_DGF[:, g], self.matmul) for g in range(w_DGF.shape[1])]
        if self.biased:
            b_GF = _used(self.b_GF, x_BTD, *self.W_IN[1:])
            h = [h_BTF + b_F for h_BTF, b_F in zip(h, b_GF, strict=True)]
        h_BTF = activations.of(self.kind).function(h)
        h_BTF = logical_axes.constrain(h_BTF, "batch", "sequence", "mlp")
        y_BTD = ops.matmul(h_BTF, w_FD, self.matmul)
        return y_BTD + _used(self.b_D, x_BTD, "embed") if self.biased else y_BTD
