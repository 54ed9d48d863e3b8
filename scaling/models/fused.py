"""Attention kernels of accelerators: the shapes that they take, and the TPU's splash kernel.

Shapes: B batch, T positions, H query heads, N key-value heads, K head size.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# (backend, step of head_dim, largest head_dim). jax checks cuDNN's (jax/_src/cudnn): 256 from
# Hopper on and 128 before. Splash works in 128 lanes; tokamax tests the same kernel with 64 to 256.
CUDNN = ("gpu", 8, 256)
SPLASH = ("tpu", 64, 256)
LANES = 128  # splash takes positions in whole multiples of this
BLOCK = 512  # positions of a block of queries or keys, at most: MaxText's default


def refusal(
    kernel: str,
    *,
    backend: str,
    dtype: str,
    width: int,
    head_dim: int,
    seq_len: int,
    grid: bool,
    cudnn_head_dim: int,
) -> str:
    """Why `kernel` does not take the model on `backend`, in one line with the fix; "" if it does.

    `seq_len` counts positions, with `grid` the patches of an example. `cudnn_head_dim` is the
    largest head that this GPU's cuDNN takes, 0 without cuDNN.
    """
    if kernel not in ("cudnn", "splash"):
        return ""
    key = f"config.model.attention={kernel!r}"
    home, step, largest = CUDNN if kernel == "cudnn" else SPLASH
    if kernel == "cudnn":
        largest = min(largest, cudnn_head_dim)
    if backend != home or not largest:
        needs = "a TPU" if kernel == "splash" else "an NVIDIA GPU from Ampere on"
        return f"{key} needs {needs}, not {backend}; choose 'auto' or 'plain'"
    if kernel == "cudnn" and dtype == "float32":
        return (
            f"{key} takes bfloat16, not config.model.dtype={dtype!r}; set "
            "config.model.dtype='bfloat16' or choose 'auto' or 'plain'"
        )
    if head_dim % step or head_dim > largest:
        fits = [k for k in range(step, largest + 1, step) if width % k == 0]
        near = min(fits, key=lambda k: (abs(k - head_dim), k), default=0)
        fix = f"the nearest that divides config.model.width={width} is {near}" if near else (
            f"none divides config.model.width={width}, choose 'auto' or 'plain'"
        )  # fmt: skip
        takes = f"{key} takes multiples of {step} up to {largest}"
        return f"config.model.head_dim={head_dim}: {takes}; {fix}"
    if kernel == "splash" and seq_len % LANES:
        if grid:
            return (
                f"{key} takes multiples of {LANES} positions, not {seq_len} patches; choose 'auto' "
                "or 'plain'"
            )
        near = max(LANES, round(seq_len / LANES) * LANES)
        takes = f"{key} takes multiples of {LANES}"
        return f"config.data.seq_len={seq_len}: {takes}; the nearest is {near}"
    return ""


def splash_attention(
    q_BTHK, k_BTNK, v_BTNK, interpret: bool = False, causal: bool = True
) -> jax.Array:
    """Flash attention by jax's splash kernel for TPUs, `o_BTHK` in the dtype of the inputs.

    A causal one leaves out blocks above the diagonal. Logits, softmax and sums are float32, as in
    FlashAttention (Dao et al. 2022). The kernel sees one device's arrays: over several devices it
    must stand in a `shard_map`.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    T, H, K = q_BTHK.shape[1:]
    block = math.gcd(T, BLOCK)
    sizes = splash.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block,
        block_q_dkv=block, block_kv_dkv=block, block_kv_dkv_compute=block,
        block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    kernel = splash.make_splash_mha(
        masks.MultiHeadMask([(masks.CausalMask if causal else masks.FullMask)((T, T))] * H),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    q_BTHK = (q_BTHK.astype(jnp.float32) / math.sqrt(K)).astype(q_BTHK.dtype)
    q_BHTK, k_BNTK, v_BNTK = (jnp.swapaxes(a, 1, 2) for a in (q_BTHK, k_BTNK, v_BTNK))
    return jnp.swapaxes(jax.vmap(kernel)(q_BHTK, k_BNTK, v_BNTK), 1, 2)
