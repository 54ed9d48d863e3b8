"""Estimate the memory of training per device from shapes alone: nothing is compiled or allocated.

Letters: D model width, F MLP width, G MLP input matrices, H query and N key-value heads of size K,
T context, V vocabulary, L blocks, k experts of a token; "tensor" splits H, N, F and V over its
devices.

The backward pass needs of a block, in numbers per token,

    4 D                               inputs of its halves, and these normed; 2 D without a mixer
  + (G + 1) F / tensor                the MLP's hidden layer; with experts k times, and 2 k D rows
  + by the kind of mixer
    transformer  (2 K (H + N) + H T) / tensor    query, key, value, their mix; attention weights
                                      (float32), but none with "cudnn" and "splash"
    lstm         D + 5 D              its output; cell and gates (float32)
    lru          (5 D + 3 D) / tensor inputs, gated states; gate and states (float32)

for all L blocks. With `model.remat` "block" it is D for each of L blocks and the rest for one of
them. With "dots" each block keeps its matrix products, 3 D + (3 D + G F) / tensor. Under "sequence"
a device has its part of T. Logits are float32 and have a gradient of their size; in chunks
(`model.loss_chunk`) those of one exist at a time. Under "fsdp" the gathered weights of all blocks
exist until the backward pass has used them, with remat those of one block or of the head. A
compiler's own copies come on top: programs of the CPU backend took 1.1 to 2.2 times as much,
without the state.

Runs packed into one program live whole on one device each, all runs of a device at the same time.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from scaling import accounting
from scaling.fields import registry as fields
from scaling.models import losses
from scaling.parallel import sharding
from scaling.programs.interface import Programs

# What compiled programs hold beyond the parts, from float32 programs of the CPU backend, see
# tests/commands/test_plan_device.py: all copies of a compiler, as a factor; numbers per token and
# block of plain attention, in H T, and of an MLP with two inputs, in F.
COPIES, PLAIN_WEIGHTS, GATED_HIDDEN = 1.1, 1.75, 1.5
PARTS = ("params", "optimizer", "gradients", "gathered weights", "activations", "logits", "batch")


def parts(config: ConfigDict, programs: Programs) -> dict[str, float]:
    """Return the bytes per device by `PARTS`."""
    m, shape, tensor = config.model, accounting.shape_of(config), axis(programs, "tensor")
    number = jnp.dtype(m.dtype).itemsize
    params = shard_bytes(programs.state_like["params"])
    micro = _micro(config, programs)

    mlps = max(1, shape.experts_per_token)  # that a token passes
    hidden = mlps * (shape.mlp_inputs + 1) * shape.mlp_width
    rows = 2 * mlps * shape.width if shape.experts else 0
    halves = (2 if shape.kind == "mlp" else 4) * shape.width
    block = number * (halves + rows + hidden / tensor) + _mixer(config, shape, tensor)
    trunk = block * shape.depth
    groups = accounting.param_groups(shape)
    blocks = groups["mixer"] + groups["mlp"]
    gathered: float = blocks + groups["head"]
    if m.remat != "none":
        qkv = {"lstm": 4, "lru": 3}.get(shape.kind, 0) * shape.width
        if shape.kind == "transformer":
            qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        products = 2 * shape.width + (qkv + mlps * shape.mlp_inputs * shape.mlp_width) / tensor
        kept = shape.width + (products if m.remat == "dots" else 0)
        trunk = block + number * kept * shape.depth
        gathered = max(blocks / shape.depth, groups["head"])
    sizes = {
        "params": params,
        "optimizer": shard_bytes(programs.state_like["opt"]),
        "gradients": params,
        "gathered weights": number * gathered / tensor if axis(programs, "fsdp") > 1 else 0.0,
        "activations": micro * trunk,
        "logits": _logits(config, programs, micro) / tensor,
        "batch": _batch(config, programs),
    }
    runs_per_device = programs.runs / programs.mesh.size if programs.runs > 1 else 1
    return {name: n_bytes * runs_per_device for name, n_bytes in sizes.items()}


def estimate(config: ConfigDict, programs: Programs, sizes: dict[str, float]) -> float:
    """Return the bytes per device of a compiled program whose `parts` are `sizes`.

    "auto" attention counts as chunked.
    """
    m, shape, tensor = config.model, accounting.shape_of(config), axis(programs, "tensor")
    beyond = 0.0  # bytes per token and block
    if shape.kind == "transformer" and m.attention == "plain":
        beyond += 4 * PLAIN_WEIGHTS * shape.heads * shape.seq_len
    if shape.mlp_inputs > 1:
        mlps = max(1, shape.experts_per_token)
        beyond += jnp.dtype(m.dtype).itemsize * GATED_HIDDEN * mlps * shape.mlp_width
    blocks = shape.depth if m.remat == "none" else 1
    tokens = _micro(config, programs)
    runs_per_device = programs.runs / programs.mesh.size if programs.runs > 1 else 1
    trunk = tokens * blocks * beyond / tensor * runs_per_device
    return COPIES * (sum(sizes.values()) + trunk)


def _micro(config: ConfigDict, programs: Programs) -> float:
    """Return the tokens of a micro-batch on one device."""
    shards = programs.mesh.size / axis(programs, "tensor") if programs.runs == 1 else 1
    tokens = config.train.batch_size * accounting.shape_of(config).seq_len / shards
    return tokens / config.train.accumulate


def _batch(config: ConfigDict, programs: Programs) -> float:
    """Return the bytes of a dispatch's rows."""
    lead: tuple[int, ...] = (config.train.steps_per_dispatch, config.train.batch_size)
    if programs.runs == 1:
        lead = sharding.batch_sharding(programs.mesh, leading=1).shard_shape(lead)
    return float(math.prod(lead) * row_bytes(config))


def row_bytes(config: ConfigDict) -> int:
    """Return the bytes of a row of a batch."""
    row = jax.tree.leaves(fields.of(config.data.field).example(config))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in row)


def _mixer(config: ConfigDict, shape: accounting.Shape, tensor: int) -> float:
    """Return the bytes per token that a block's mixer keeps."""
    D, number = shape.width, jnp.dtype(config.model.dtype).itemsize
    if shape.kind == "transformer":
        fused = config.model.attention in ("cudnn", "splash")
        weights = 0 if fused else 4 * shape.heads * shape.seq_len
        kept = 2 * shape.head_dim * (shape.heads + shape.kv_heads)
        return (number * kept + weights) / tensor
    if shape.kind == "lstm":
        return number * D + 4 * 5 * D
    return (number * 5 * D + 4 * 3 * D) / tensor if shape.kind == "lru" else 0.0


def _logits(config: ConfigDict, programs: Programs, tokens: float) -> float:
    """Return the bytes of the logits and their gradient, or of those of one chunk."""
    shape = accounting.shape_of(config)
    context, vocab = shape.seq_len, shape.vocab_size
    if shape.grid:  # one row of logits for all positions
        return tokens / context * 2 * 4 * vocab
    chunk = losses.pick_chunk(
        config.model.loss_chunk,
        vocab_size=vocab,
        seq_len=context,
        sequence_shards=axis(programs, "sequence"),
    )
    head_gradient = 4.0 * config.model.width * vocab if chunk else 0.0  # a sum over the chunks
    return tokens * (chunk or context) / context * 2 * 4 * vocab + head_gradient


def remedies(config: ConfigDict, programs: Programs, sizes: dict[str, float]) -> str:
    """Name the keys of the config that make the two largest parts smaller, with their values."""
    remat = "config.model.remat='block' with config.model.scan_layers=True"
    remat = remat if config.model.remat == "none" else ""
    fsdp, tensor = (
        f"a higher config.parallel.{a} (now {axis(programs, a)})" for a in ("fsdp", "tensor")
    )
    batch = f"a higher config.train.accumulate (now {config.train.accumulate})"
    steps = f"a lower config.train.steps_per_dispatch (now {config.train.steps_per_dispatch})"
    by_part = {
        "params": (fsdp, tensor),
        "optimizer": (fsdp, tensor),
        "gradients": (fsdp, tensor),
        "gathered weights": (remat, tensor),
        "activations": (remat, batch),
        "logits": (batch, tensor),
        "batch": (steps,),
    }
    largest = sorted(sizes, key=lambda name: -sizes[name])[:2]
    pack = f"a lower config.launch.pack ({programs.runs} here)" if programs.runs > 1 else ""
    lines = [line for name in largest for line in by_part[name]]
    lines = list(dict.fromkeys(line for line in (pack, *lines) if line))
    return f"try {', '.join(lines)}"


def axis(programs: Programs, name: str) -> int:
    """Return the number of devices along an axis of the mesh, 1 if the mesh has no such axis."""
    return dict(programs.mesh.shape).get(name, 1)


def shard_bytes(tree: Any) -> float:
    """Return the bytes per device of a tree of arrays, or of their shapes with shardings."""
    return float(
        sum(
            math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
            for x in jax.tree.leaves(tree)
        )
    )
