"""Mixture of experts in place of the MLP: a router sends each token to k of E MLPs and drops none.

Shapes: B batch, T positions, N tokens of one device, k experts of a token, M = N k rows, D model
width, E experts, F hidden width of an expert, G its input matrices, X = G F, W blocks of C rows.

Rows are sorted by expert, and each expert's rows are padded with zeros to whole blocks. So a block
has one expert, and shapes are static whatever the router does: at most M + E C rows are computed,
with C such that E C is about M / 8. `jax.lax.ragged_dot` of jax 0.10 is not used, since it computes
all E M rows on CPUs and, by default, on GPUs.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from scaling.models import activations, logical_axes, ops, parametrization
from scaling.models.parameters import Matrix, normal_param

BLOCK = (8, 128)  # rows of a block, at least and at most


class Experts(nnx.Module):
    """E experts as in `layers.MLP`, each of hidden width F, with p = softmax(R x) in float32:

      y = sum over the k largest p_e of g_e MLP_e(x)

    g_e = p_e for k = 1 (Switch; Fedus et al. 2021), else p_e over the sum of the k (GShard;
    Lepikhin et al. 2020).
    """

    W_ROUTER = ("embed", "experts")
    W_IN = ("experts", "embed", "gate", "mlp")
    W_OUT = ("experts", "mlp", "embed")

    def __init__(self, model, *, rngs: nnx.Rngs):
        D, E, F = model.width, model.experts, model.mlp_width
        G = activations.of(model.mlp).inputs
        dtype = jnp.dtype(model.param_dtype)
        scales = parametrization.of(model)
        std, out_std = 1 / math.sqrt(D), scales.writer_std(F)
        # The router is a head over experts, and heads are no matrices to an optimizer.
        self.w_DE = normal_param(rngs, (D, E), scales.end_std, self.W_ROUTER, dtype, matrix=None)
        self.w_EDGF = normal_param(rngs, (E, D, G, F), std, self.W_IN, dtype, Matrix((-3,), (-1,)))
        self.w_EFD = normal_param(rngs, (E, F, D), out_std, self.W_OUT, dtype, Matrix((-2,), (-1,)))
        self.kind, self.matmul, self.chosen = model.mlp, model.matmul, model.experts_per_token
        self.scales = scales

    def __call__(self, x_BTD) -> tuple[jax.Array, jax.Array]:
        """(y_BTD, the load-balance loss of this layer)."""
        dtype, k = x_BTD.dtype, self.chosen
        w_DE = logical_axes.gathered(self.w_DE[...].astype(jnp.float32), *self.W_ROUTER)
        x32_BTD = self.scales.before_head(x_BTD.astype(jnp.float32))
        p_BTE = jax.nn.softmax(ops.matmul(x32_BTD, w_DE, self.matmul))
        gate_BTk, expert_BTk = jax.lax.top_k(p_BTE, k)
        if k > 1:
            gate_BTk = gate_BTk / gate_BTk.sum(axis=-1, keepdims=True)
        y_BTD = logical_axes.by_rows(
            functools.partial(dispatched, kind=self.kind),
            (x_BTD, gate_BTk.astype(dtype), expert_BTk),
            (
                logical_axes.gathered(self.w_EDGF[...].astype(dtype), *self.W_IN),
                logical_axes.gathered(self.w_EFD[...].astype(dtype), *self.W_OUT),
            ),
        )
        return y_BTD, load_balance(p_BTE, expert_BTk)


def load_balance(p_BTE: jax.Array, expert_BTk: jax.Array) -> jax.Array:
    """E sum_e f_e P_e (Fedus et al. 2021) over all tokens of a step, on all devices.

    f_e is the part of the rows that expert e gets, P_e its mean probability. The loss is 1 if all
    experts are used alike. f has no gradient.
    """
    E = p_BTE.shape[-1]
    f_E = jax.nn.one_hot(expert_BTk, E).mean(axis=(0, 1, 2))
    return E * jnp.sum(jax.lax.stop_gradient(f_E) * p_BTE.mean(axis=(0, 1)))


def dispatched(x_BTD, gate_BTk, expert_BTk, w_EDGF, w_EFD, *, kind: str) -> jax.Array:
    """`y_BTD` of the equation above, from each token's experts and their weights."""
    B, T, D = x_BTD.shape
    E, _, G, F = w_EDGF.shape
    k = expert_BTk.shape[-1]
    C = block_rows(B * T * k, E)
    source_WC, position_M, expert_W = blocks(expert_BTk.reshape(-1), E, C)
    x_ND = jnp.concatenate([x_BTD.reshape(-1, D), jnp.zeros((1, D), x_BTD.dtype)])
    x_WCD = x_ND[jnp.minimum(source_WC // k, B * T)]  # padding reads the zeros at the end
    y_WCD = expert_mlps(x_WCD, w_EDGF.reshape(E, D, G * F), w_EFD, expert_W, kind, G)
    y_BTkD = y_WCD.reshape(-1, D)[position_M].reshape(B, T, k, D)
    return (y_BTkD * gate_BTk[..., None]).sum(axis=2)


def block_rows(M: int, E: int) -> int:
    """C: the power of two next below M / (8 E), within BLOCK."""
    return min(max(1 << max(0, (M // (8 * E)).bit_length() - 1), BLOCK[0]), BLOCK[1])


def blocks(expert_M: jax.Array, E: int, C: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sort rows by expert into blocks of one expert each.

    Returns source_WC, the row at each position of the blocks, M for none; position_M of each row in
    the blocks; expert_W of each block.
    """
    M = expert_M.shape[0]
    order_M = jnp.argsort(expert_M, stable=True)
    count_E = jnp.zeros(E, jnp.int32).at[expert_M].add(1)
    ends_E = jnp.cumsum(-(-count_E // C) * C)  # with padding
    begin_E = jnp.concatenate([jnp.zeros(1, jnp.int32), ends_E[:-1]])
    before_E = jnp.cumsum(count_E) - count_E
    sorted_M = expert_M[order_M]
    sorted_position_M = begin_E[sorted_M] + jnp.arange(M, dtype=jnp.int32) - before_E[sorted_M]
    W = -(-M // C) + E
    source_WC = jnp.full(W * C, M, jnp.int32).at[sorted_position_M].set(order_M).reshape(W, C)
    position_M = jnp.zeros(M, jnp.int32).at[order_M].set(sorted_position_M)
    expert_W = jnp.searchsorted(ends_E, jnp.arange(W, dtype=jnp.int32) * C, side="right")
    return source_WC, position_M, jnp.minimum(expert_W, E - 1).astype(jnp.int32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def expert_mlps(x_WCD, w_EDX, w_EFD, expert_W, kind: str, G: int) -> jax.Array:
    """`y_WCD`, each block through the MLP of its expert, one after another.

    The gradient is written out: it adds a block's share to its expert's weights in place, while the
    compiler would add arrays of all experts for each block.
    """
    return _mlps_forward(x_WCD, w_EDX, w_EFD, expert_W, kind, G)[0]


_product = functools.partial(jnp.matmul, preferred_element_type=jnp.float32)


def _mlps_forward(x_WCD, w_EDX, w_EFD, expert_W, kind, G):
    dtype, activation = x_WCD.dtype, activations.of(kind).function

    def one(block):
        x_CD, e = block
        a_CX = _product(x_CD, w_EDX[e]).astype(dtype)
        h_CF = activation(jnp.split(a_CX, G, axis=-1))
        return _product(h_CF, w_EFD[e]).astype(dtype), a_CX

    y_WCD, a_WCX = jax.lax.map(one, (x_WCD, expert_W))
    return y_WCD, (x_WCD, a_WCX, w_EDX, w_EFD, expert_W)


def _mlps_backward(kind, G, saved, g_WCD):
    x_WCD, a_WCX, w_EDX, w_EFD, expert_W = saved
    dtype, activation = x_WCD.dtype, activations.of(kind).function

    def one(carry, block):
        dw_EDX, dw_EFD = carry
        x_CD, a_CX, g_CD, e = block
        h_CF, pull = jax.vjp(lambda a: activation(jnp.split(a, G, axis=-1)), a_CX)
        dw_EFD = dw_EFD.at[e].add(_product(h_CF.T, g_CD))
        (da_CX,) = pull(_product(g_CD, w_EFD[e].T).astype(dtype))
        dw_EDX = dw_EDX.at[e].add(_product(x_CD.T, da_CX))
        return (dw_EDX, dw_EFD), _product(da_CX, w_EDX[e].T).astype(dtype)

    zeros = tuple(jnp.zeros(w.shape, jnp.float32) for w in (w_EDX, w_EFD))
    (dw_EDX, dw_EFD), dx_WCD = jax.lax.scan(one, zeros, (x_WCD, a_WCX, g_WCD, expert_W))
    none = np.zeros(expert_W.shape, jax.dtypes.float0)
    return dx_WCD, dw_EDX.astype(w_EDX.dtype), dw_EFD.astype(w_EFD.dtype), none


expert_mlps.defvjp(_mlps_forward, _mlps_backward)
