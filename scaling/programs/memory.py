"""Memory of training per device, worked out from shapes alone: nothing is compiled or allocated.

Letters: D model width, F MLP width, G MLP input matrices, H heads, T context, V vocabulary, L blocks, k experts of a token,
N tokens of one micro-batch on one device; "tensor" splits H, F and V over its devices.

What the backward pass needs of a block, in numbers per token, is counted as

    4 D                               inputs of its two halves, and these normed; 2 D where it has no mixer
  + (G + 1) F / tensor                the MLP's hidden layer; of experts k of them, and 2 k D for the rows sent there
  + of the mixer by kind
    transformer  (4 D + H T) / tensor query, key, value and their mix; attention weights (float32), none with "cudnn"
    lstm         D + 5 D              its output; cell and gates (float32)
    lru          (5 D + 3 D) / tensor inputs, gated states; gate and states (float32)

for all L blocks; with `model.remat` "block" it is D for each of L blocks and the rest for one of them, with "dots"
each block keeps its matrix products, 3 D + (3 D + G F) / tensor. Under "sequence" a device has its part of T.
Logits are float32 and have a gradient of their size; in chunks (`model.loss_chunk`) those of one exist at a time. Under "fsdp" the gathered weights of all blocks are
there until the backward pass has used them, with remat those of one block or of the head. A compiler's
own copies come on top: programs of the CPU backend took 1.1 to 2.2 times as much besides the state.

Runs packed into one program live whole on one device each, all that a device has at the same time.
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

PARTS = ("params", "optimizer", "gradients", "gathered weights", "activations", "logits", "batch")


def parts(config: ConfigDict, programs: Programs) -> dict[str, float]:
    """Bytes per device by `PARTS`."""
    m, shape, tensor = config.model, accounting.shape_of(config), axis(programs, "tensor")
    number = jnp.dtype(m.dtype).itemsize
    params = shard_bytes(programs.state_like["params"])
    shards = programs.mesh.size / tensor if programs.runs == 1 else 1
    tokens = config.train.batch_size * shape.seq_len / shards
    micro = tokens / config.train.accumulate

    sent = max(1, shape.experts_per_token)  # MLPs that a token goes through
    hidden = sent * (shape.mlp_inputs + 1) * shape.mlp_width
    rows = 2 * sent * shape.width if shape.experts else 0
    halves = (2 if shape.kind == "mlp" else 4) * shape.width
    block = number * (halves + rows + hidden / tensor) + _mixer(config, shape, tensor)
    trunk = block * shape.depth
    groups = accounting.param_groups(shape)
    blocks = groups["mixer"] + groups["mlp"]
    gathered: float = blocks + groups["head"]
    if m.remat != "none":
        qkv = {"transformer": 3, "lstm": 4, "lru": 3}.get(shape.kind, 0) * shape.width
        products = 2 * shape.width + (qkv + sent * shape.mlp_inputs * shape.mlp_width) / tensor
        kept = shape.width + (products if m.remat == "dots" else 0)
        trunk = block + number * kept * shape.depth
        gathered = max(blocks / shape.depth, groups["head"])
    found = {
        "params": params,
        "optimizer": shard_bytes(programs.state_like["opt"]),
        "gradients": params,
        "gathered weights": number * gathered / tensor if axis(programs, "fsdp") > 1 else 0.0,
        "activations": micro * trunk,
        "logits": _logits(config, programs, micro) / tensor,
        "batch": _batch(config, programs),
    }
    seats = programs.runs / programs.mesh.size if programs.runs > 1 else 1
    return {name: n_bytes * seats for name, n_bytes in found.items()}


def _batch(config: ConfigDict, programs: Programs) -> float:
    """Bytes of a dispatch's rows."""
    lead: tuple[int, ...] = (config.train.steps_per_dispatch, config.train.batch_size)
    if programs.runs == 1:
        lead = sharding.batch_sharding(programs.mesh, leading=1).shard_shape(lead)
    rows = jax.tree.leaves(fields.of(config.data.field).example(config))
    return float(sum(math.prod((*lead, *row.shape)) * row.dtype.itemsize for row in rows))


def _mixer(config: ConfigDict, shape: accounting.Shape, tensor: int) -> float:
    """Bytes per token that a block's mixer keeps."""
    D, number = shape.width, jnp.dtype(config.model.dtype).itemsize
    if shape.kind == "transformer":
        weights = 0 if config.model.attention == "cudnn" else 4 * D / shape.head_dim * shape.seq_len
        return (number * 4 * D + weights) / tensor
    if shape.kind == "lstm":
        return number * D + 4 * 5 * D
    return (number * 5 * D + 4 * 3 * D) / tensor if shape.kind == "lru" else 0.0


def _logits(config: ConfigDict, programs: Programs, tokens: float) -> float:
    """Bytes of the logits and their gradient, of one chunk of them where they come in chunks."""
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
    # the head's gradient adds up over the chunks
    added_up = 4.0 * config.model.width * vocab if chunk else 0.0
    return tokens * (chunk or context) / context * 2 * 4 * vocab + added_up


def mends(config: ConfigDict, programs: Programs, found: dict[str, float]) -> str:
    """What makes the two largest parts smaller: the keys of the config, with their values now."""
    remat = "config.model.remat='block' with config.model.scan_layers=True"
    remat = remat if config.model.remat == "none" else ""
    fsdp, tensor = (
        f"a higher config.parallel.{a} (now {axis(programs, a)})" for a in ("fsdp", "tensor")
    )
    batch = f"a higher config.train.accumulate (now {config.train.accumulate})"
    steps = f"a lower config.train.steps_per_dispatch (now {config.train.steps_per_dispatch})"
    against = {
        "params": (fsdp, tensor),
        "optimizer": (fsdp, tensor),
        "gradients": (fsdp, tensor),
        "gathered weights": (remat, tensor),
        "activations": (remat, batch),
        "logits": (batch, tensor),
        "batch": (steps,),
    }
    largest = sorted(found, key=lambda name: -found[name])[:2]
    pack = f"a lower config.launch.pack ({programs.runs} here)" if programs.runs > 1 else ""
    offered = [mend for name in largest for mend in against[name]]
    offered = list(dict.fromkeys(mend for mend in (pack, *offered) if mend))
    return f"try {', '.join(offered)}"


def axis(programs: Programs, name: str) -> int:
    """Devices along an axis of the mesh, 1 where the mesh has no such axis."""
    return dict(programs.mesh.shape).get(name, 1)


def shard_bytes(tree: Any) -> float:
    """Bytes that one device holds of a tree of arrays or of jax.ShapeDtypeStructs with shardings."""
    return float(
        sum(
            math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
            for x in jax.tree.leaves(tree)
        )
    )
