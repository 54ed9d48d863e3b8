"""Recurrent mixers: the LSTM and the linear recurrent unit. On a grid positions follow row by row.

Shapes: B batch, T positions, D model width, S state (= D), Z the four gates, P parts of the LRU's
input product.

Initialisation as in `layers.py`; an LSTM's recurrent matrix ~ Normal(0, 1/S), an LRU's eigenvalues
as its class states.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.models import logical_axes, ops, parametrization
from scaling.models.parameters import Matrix, normal_param, vector_param

# Steps of time per iteration of the LSTM's loop: of 1, 2, 4, 8 and 16 the fastest forward and
# backward at T = 128, B = 16, D = 64 on two CPU cores; longer ones compile for seconds.
UNROLL = 2
# Chunks of an LRU's positions, at most: one associative scan over 128 positions runs no faster on
# CPUs and takes four times as long to compile.
CHUNKS = 64


class LSTM(nnx.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000),
    no biases:

    i, f, o = sigmoid(W x_t + U h_{t-1}), f of its sum plus 1, so that memories last at the start
    g       = tanh(W x_t + U h_{t-1})
    c_t = f c_{t-1} + i g,   h_t = o tanh(c_t),   y_t = V h_t
    """

    W_IN = ("embed", "gates", "cell")
    W_STATE = ("embed", "gates", "cell")  # the first axis is as long as the width, and split as it
    W_OUT = ("cell", "embed")

    def __init__(self, model, *, rngs: nnx.Rngs):
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        std = 1 / math.sqrt(D)
        out_std = parametrization.of(model).writer_std(D)
        gates, output = Matrix((-3,), (-1,)), Matrix((-2,), (-1,))
        self.w_DZS = normal_param(rngs, (D, 4, D), std, self.W_IN, dtype, gates)
        self.w_SZS = normal_param(rngs, (D, 4, D), std, self.W_STATE, dtype, gates)
        self.w_SD = normal_param(rngs, (D, D), out_std, self.W_OUT, dtype, output)
        self.matmul = model.matmul

    def __call__(self, x_BTD, over_time: Callable | None = None):
        """`over_time` replaces `cells`."""
        x_BTD = logical_axes.constrain(x_BTD, "batch", "keys", "width")
        w_DZS, w_SZS, w_SD = (
            logical_axes.gathered(w[...].astype(x_BTD.dtype), *names)
            for w, names in (
                (self.w_DZS, self.W_IN), (self.w_SZS, self.W_STATE), (self.w_SD, self.W_OUT),
            )
        )  # fmt: skip
        D = x_BTD.shape[-1]
        z_BTZ = ops.matmul(x_BTD, w_DZS.reshape(D, -1), self.matmul)
        h_TBS = (over_time or cells)(jnp.moveaxis(z_BTZ, 1, 0), w_SZS.reshape(D, -1))
        return ops.matmul(jnp.moveaxis(h_TBS, 0, 1), w_SD, self.matmul)


@jax.custom_vjp
def cells(z_TBZ: jax.Array, u_SZ: jax.Array) -> jax.Array:
    """`h_TBS` of the equations above, from all W x_t and from U, with h_0 = c_0 = 0.

    The gates i, f, o, g lie side by side; they and the cell are float32. The gradient is written
    out: that of U is one product over all positions, while the compiler would add up one for each.
    """
    return _cells_forward(z_TBZ, u_SZ)[0]


def _cells_forward(z_TBZ, u_SZ):
    B, S, dtype = z_TBZ.shape[1], u_SZ.shape[0], z_TBZ.dtype

    def step(carry, z_BZ):
        carry, gates = cell(carry, z_BZ, u_SZ)
        return carry, (*carry, *gates)

    start = jnp.zeros((B, S), dtype), jnp.zeros((B, S), jnp.float32)
    kept = jax.lax.scan(step, start, z_TBZ, unroll=UNROLL)[1]
    return kept[0], (u_SZ, *kept)


def cell(state, z_BZ, u_SZ):
    """Return the next (h, c), and the gates (i, f, o, g); h in the dtype of z."""
    (h_BS, c_BS), S, dtype = state, u_SZ.shape[0], z_BZ.dtype
    z_BZ = z_BZ.astype(jnp.float32) + _product(h_BS, u_SZ)
    i, f, o = (jax.nn.sigmoid(z_BZ[:, k * S : (k + 1) * S] + (k == 1)) for k in range(3))
    g = jnp.tanh(z_BZ[:, 3 * S :])
    c_BS = f * c_BS + i * g
    return ((o * jnp.tanh(c_BS)).astype(dtype), c_BS), (i, f, o, g)


def _cells_backward(saved, g_TBS):
    """With t = tanh(c): dc += dh o (1 - t^2); of the sums di = dc g i (1 - i), df = dc c_{t-1} f (1
    - f), do = dh t o (1 - o), dg = dc i (1 - g^2). The step before receives dc f and dz U'."""
    u_SZ, h_TBS, c_TBS, *gates = saved
    dtype = h_TBS.dtype
    before_TBS = jnp.concatenate([jnp.zeros_like(c_TBS[:1]), c_TBS[:-1]])

    def step(carry, at):
        dh_BS, dc_BS = carry
        g_BS, c_BS, before_BS, i, f, o, g = at
        dh_BS = dh_BS + g_BS.astype(jnp.float32)
        t_BS = jnp.tanh(c_BS)
        dc_BS = dc_BS + dh_BS * o * (1 - t_BS * t_BS)
        di, df = dc_BS * g * i * (1 - i), dc_BS * before_BS * f * (1 - f)
        do, dg = dh_BS * t_BS * o * (1 - o), dc_BS * i * (1 - g * g)
        dz_BZ = jnp.concatenate([di, df, do, dg], axis=-1).astype(dtype)
        return (_product(dz_BZ, u_SZ.T), dc_BS * f), dz_BZ

    zero_BS = jnp.zeros(c_TBS.shape[1:], jnp.float32)
    along = (g_TBS, c_TBS, before_TBS, *gates)
    dz_TBZ = jax.lax.scan(step, (zero_BS, zero_BS), along, reverse=True, unroll=UNROLL)[1]
    S, Z = u_SZ.shape
    du_SZ = _product(h_TBS[:-1].reshape(-1, S).T, dz_TBZ[1:].reshape(-1, Z))
    return dz_TBZ, du_SZ.astype(u_SZ.dtype)


def _product(a, b):
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


cells.defvjp(_cells_forward, _cells_backward)


class LRU(nnx.Module):
    """Linear recurrent unit (Orvieto et al. 2023), diagonal and complex, with a gate before its
    output:

      lambda = exp(-exp(nu) + i exp(theta)),   gamma = sqrt(1 - |lambda|^2)
      s_t = lambda s_{t-1} + gamma (B x_t),    y_t = Re(C (sigmoid(G x_t) s_t))

    B and C are complex, all parameters real. |lambda| < 1 for any nu. gamma keeps the variance of s
    that of B x for any |lambda|; it follows lambda, while the paper trains it from this start.
    |lambda|^2 starts uniform in R_MIN^2 to R_MAX^2, the angle uniform in 0 to 2 pi (the paper's
    ring). The recurrence runs in float32, by associative scans.
    """

    W_IN = ("embed", "parts", "state")  # Re B, Im B, G
    W_OUT = ("parts", "state", "embed")  # Re C, -Im C
    R_MIN, R_MAX = 0.0, 0.99

    def __init__(self, model, *, rngs: nnx.Rngs):
        D, dtype = model.width, jnp.dtype(model.param_dtype)
        self.w_DPS = normal_param(
            rngs, (D, 3, D), 1 / math.sqrt(D), self.W_IN, dtype, Matrix((-3,), (-1,))
        )
        out_std = parametrization.of(model).writer_std(2 * D)
        self.w_PSD = normal_param(
            rngs, (2, D, D), out_std, self.W_OUT, dtype, Matrix((-3, -2), (-1,))
        )
        u_S, v_S = (jax.random.uniform(rngs.params(), (D,), jnp.float32, 1e-4) for _ in range(2))
        square_S = self.R_MIN**2 + u_S * (self.R_MAX**2 - self.R_MIN**2)
        nu_S, theta_S = jnp.log(-0.5 * jnp.log(square_S)), jnp.log(2 * math.pi * v_S)
        self.nu_S = vector_param(nu_S.astype(dtype), "state")
        self.theta_S = vector_param(theta_S.astype(dtype), "state")
        self.matmul = model.matmul

    def __call__(self, x_BTD, over_time: Callable | None = None):
        """`over_time` replaces `recurrence`."""
        B, T, D = x_BTD.shape
        x_BTD = logical_axes.constrain(x_BTD, "batch", "keys", "width")
        w_DPS = logical_axes.gathered(self.w_DPS[...].astype(x_BTD.dtype), *self.W_IN)
        w_PSD = logical_axes.gathered(self.w_PSD[...].astype(x_BTD.dtype), *self.W_OUT)
        u_BTPS = ops.matmul(x_BTD, w_DPS.reshape(D, -1), self.matmul).reshape(B, T, 3, D)
        u_BTPS = logical_axes.constrain(u_BTPS, "batch", "keys", "parts", "state")
        re_BTS, im_BTS, gate_BTS = (
            a[:, :, 0].astype(jnp.float32) for a in jax.lax.split(u_BTPS, (1, 1, 1), 2)
        )
        nu_S, theta_S = (p[...].astype(jnp.float32) for p in (self.nu_S, self.theta_S))
        decay_S, angle_S = jnp.exp(nu_S), jnp.exp(theta_S)
        gamma_S = jnp.sqrt(-jnp.expm1(-2 * decay_S))
        size_S = jnp.exp(-decay_S)
        eigenvalue = size_S * jnp.cos(angle_S), size_S * jnp.sin(angle_S)
        states = (over_time or recurrence)(*eigenvalue, gamma_S * re_BTS, gamma_S * im_BTS)
        gate_BTS = jax.nn.sigmoid(gate_BTS)
        s_BTPS = jnp.stack([gate_BTS * s_BTS for s_BTS in states], axis=2).astype(x_BTD.dtype)
        s_BTPS = logical_axes.constrain(s_BTPS, "batch", "keys", "parts", "state")
        return ops.matmul(s_BTPS.reshape(B, T, -1), w_PSD.reshape(-1, D), self.matmul)


@jax.custom_vjp
def recurrence(re_S, im_S, u_BTS, v_BTS) -> tuple[jax.Array, jax.Array]:
    """(real, imaginary) part of s_t = (re + i im) s_{t-1} + u_t + i v_t with s_0 = 0, along axis 1.

    Its gradient is the same recurrence back in time with the conjugate, of the states alone.
    """
    return _recurrence(re_S, im_S, u_BTS, v_BTS)


def _recurrence(re_S, im_S, u_BTS, v_BTS):
    """Scan associatively within chunks of C positions, then loop over the states of N chunks.

    Pairs (a, b), the step s -> a s + b, compose as (a', b') after (a, b) = (a' a, a' b + b').
    """
    B, T, S = u_BTS.shape
    C = chunk(T)
    N = -(-T // C)
    filled = ((0, 0), (0, N * C - T), (0, 0))
    u_NBCS, v_NBCS = (
        jnp.moveaxis(jnp.pad(x_BTS, filled).reshape(B, N, C, S), 1, 0) for x_BTS in (u_BTS, v_BTS)
    )
    a_CS, b_CS = (jnp.broadcast_to(e_S, (1, 1, C, S)) for e_S in (re_S, im_S))

    def after(first, second):
        (a, b, u, v), (c, d, w, x) = first, second
        return c * a - d * b, c * b + d * a, c * u - d * v + w, c * v + d * u + x

    pairs = (a_CS, b_CS, u_NBCS, v_NBCS)
    a_CS, b_CS, u_NBCS, v_NBCS = jax.lax.associative_scan(after, pairs, axis=2)
    a_CS, b_CS = a_CS[0, 0], b_CS[0, 0]  # the powers of lambda

    def hand_on(state, own):
        r_B1S, i_B1S = state
        u_BCS, v_BCS = own
        r_BCS, i_BCS = a_CS * r_B1S - b_CS * i_B1S + u_BCS, a_CS * i_B1S + b_CS * r_B1S + v_BCS
        return (r_BCS[:, -1:], i_BCS[:, -1:]), (r_BCS, i_BCS)

    zeros = (jnp.zeros((B, 1, S), u_BTS.dtype),) * 2
    states = jax.lax.scan(hand_on, zeros, (u_NBCS, v_NBCS))[1]
    return tuple(jnp.moveaxis(x, 0, 1).reshape(B, N * C, S)[:, :T] for x in states)


def chunk(T: int) -> int:
    """C: a power of two that makes at most CHUNKS chunks of T positions."""
    return max(4, 1 << (-(-T // CHUNKS) - 1).bit_length())


def _recurrence_forward(re_S, im_S, u_BTS, v_BTS):
    states = _recurrence(re_S, im_S, u_BTS, v_BTS)
    return states, (re_S, im_S, *states)


def _recurrence_backward(saved, g):
    re_S, im_S, r_BTS, i_BTS = saved
    back = _recurrence(re_S, -im_S, *(g_BTS[:, ::-1] for g_BTS in g))
    du_BTS, dv_BTS = (d_BTS[:, ::-1] for d_BTS in back)
    du, dv, r, i = du_BTS[:, 1:], dv_BTS[:, 1:], r_BTS[:, :-1], i_BTS[:, :-1]
    return (du * r + dv * i).sum((0, 1)), (dv * r - du * i).sum((0, 1)), du_BTS, dv_BTS


recurrence.defvjp(_recurrence_forward, _recurrence_backward)
