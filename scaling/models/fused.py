"""Attention kernels of accelerators: what shapes they take, and the call of the TPU's splash kernel.

Shapes: B batch, T positions, H heads, K head size.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

# (backend, step of head_dim, largest head_dim): cuDNN's as jax checks them (jax/_src/cudnn), 256 from Hopper on and
# 128 before; splash works in 128 lanes, and 64 to 256 is what tokamax's tests of the same kernel cover
CUDNN = ("gpu", 8, 256)
SPLASH = ("tpu", 64, 256)
LANES = 128  # positions come to splash in whole multiples of this
BLOCK = 512  # positions of a block of queries or keys, at most: MaxText's default


def refusal(
    how: str,
    *,
    backend: str,
    dtype: str,
    width: int,
    head_dim: int,
    seq_len: int,
    grid: bool,
    cudnn_head_dim: int,
) -> str:
    """Why the kernel `how` takes no such model on `backend`, in one line with the mend; "" where it does.

    `seq_len` counts positions, with `grid` the patches of an example.
    `cudnn_head_dim` is the largest head that this GPU's cuDNN takes, 0 where it has none.
    """
    if how not in ("cudnn", "splash"):
        return ""
    asked = f"config.model.attention={how!r}"
    home, step, largest = CUDNN if how == "cudnn" else SPLASH
    if how == "cudnn":
        largest = min(largest, cudnn_head_dim)
    if backend != home or not largest:
        needs = "a TPU" if how == "splash" else "an NVIDIA GPU from Ampere on"
        return f"{asked} needs {needs}, here is {backend}; choose 'auto' or 'plain'"
    if how == "cudnn" and dtype == "float32":
        return (
            f"{asked} takes bfloat16, not config.model.dtype={dtype!r}; set config.model.dtype='bfloat16' "
            "or choose 'auto' or 'plain'"
        )
    if head_dim % step or head_dim > largest:
        fits = [k for k in range(step, largest + 1, step) if width % k == 0]
        near = min(fits, key=lambda k: (abs(k - head_dim), k), default=0)
        mend = f"the nearest that divides config.model.width={width} is {near}" if near else (
            f"none divides config.model.width={width}, choose 'auto' or 'plain'"
        )  # fmt: skip
        return f"config.model.head_dim={head_dim}: {asked} takes multiples of {step} up to {largest}; {mend}"
    if how == "splash" and seq_len % LANES:
        if grid:
            return f"{asked} takes multiples of {LANES} positions, not {seq_len} patches; choose 'auto' or 'plain'"
        near = max(LANES, round(seq_len / LANES) * LANES)
        return f"config.data.seq_len={seq_len}: {asked} takes multiples of {LANES}; the nearest is {near}"
    return ""


def splash_attention(
    q_BTHK, k_BTHK, v_BTHK, interpret: bool = False, causal: bool = True
) -> jax.Array:
    """Flash attention by jax's splash kernel for TPUs, causal or not, `o_BTHK` in the dtype of the inputs.

    Of a causal one blocks above the diagonal are left out; logits, softmax and sums are float32, as in FlashAttention
    (Dao et al. 2022). It sees one device's arrays: over several it must stand in a `shard_map`.
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
    q_BHTK, k_BHTK, v_BHTK = (jnp.swapaxes(a, 1, 2) for a in (q_BTHK, k_BTHK, v_BTHK))
    return jnp.swapaxes(jax.vmap(kernel)(q_BHTK, k_BHTK, v_BHTK), 1, 2)
