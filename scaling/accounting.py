"""Count the parameters, FLOPs and tokens of a model from its shape alone.

Letters: D model width, H query heads, N key-value heads, K head size, F MLP width, G MLP input
matrices (of models/activations.py), V vocabulary, T context, L layers, E experts, k of them for
each token, J taps of a kernel or tokens of a window.

Parameters and forward FLOPs of one token in one block, of its mixer by kind and of its MLP:

    transformer   2 D K (H + N)       4 D K (H + N) + 4 T H K + 3 H T      4 D^2 if H K = N K = D
    lstm          9 D^2               18 D^2               gates from input and state, output
    lru           5 D^2 + 2 D         10 D^2 + 8 D         two complex products, gate, recurrence
    cnn           J D, on grids J^2 D     2 J D, 2 J^2 D
    mlp           none                none                 (once, for its window: J D^2 and 2 J D^2)
    MLP           (G + 1) D F         2 (G + 1) D F
    experts       E (G + 1) D F + D E     2 k (G + 1) D F + 2 D E

Biases, see `_biases`, are parameters; their additions are no FLOPs, as those of norms are none.
`n_params_active` counts k experts in place of E: those that a token uses. So do the FLOPs, in every
convention. The padding of blocks in scaling/models/experts.py is not counted. `check_built`
compares the counts with each model that programs are built for.

Causal attention is counted as if every position saw the whole context (T^2, not T^2 / 2), as in
Hoffmann et al. 2022 and most published counts; the chunked CPU attention does about half of it.
The backward pass counts as twice the forward pass; recomputation (remat) is not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ml_collections import ConfigDict

from scaling.config.field_traits import LABELLED
from scaling.models import activations
from scaling.models.heads import heads_of
from scaling.utils.errors import UserError

# Training FLOPs per token by convention. N counts k of a layer's E experts.
#   kaplan      6 N                 N without embeddings and head  (Kaplan et al. 2020)
#   porian      6 (N + head)        adds the head's product        (Porian et al. 2024)
#   chinchilla  6 N_total           every parameter, the short form (Hoffmann et al. 2022)
#   exact       every product, attention included; the embedding is the look-up that it is
#   appendix_f  `exact` with the embedding counted as a product (Hoffmann et al. 2022, appendix F)
CONVENTIONS = ("exact", "appendix_f", "kaplan", "porian", "chinchilla")
N_PARAMS = ("window", "mixer", "mlp", "router", "norms", "biases")  # groups that n_params adds up


@dataclass(frozen=True)
class Shape:
    """The sizes that parameters and FLOPs depend on; see `shape_of`."""

    depth: int
    width: int
    head_dim: int
    mlp_width: int
    mlp_inputs: int
    vocab_size: int
    seq_len: int
    learned_positions: bool
    qk_norm: bool
    tied_head: bool
    heads: int  # of queries
    kv_heads: int
    bias: str = "none"
    norm_bias: bool = False
    kind: str = "transformer"
    kernel: int = 0  # cnn: taps along each axis
    window: int = 0  # mlp: tokens that a position sees
    grid: bool = False  # positions are patches of an image, and vocab_size counts classes
    patch_size: int = 0  # numbers of a patch; 0 if inputs are ids
    experts: int = 0  # 0 = dense
    experts_per_token: int = 0


def shape_of(config: ConfigDict) -> Shape:
    """Return the shape of a config's model. Raises UserError if the sizes of a grid are missing."""
    m, d = config.model, config.data
    grid, (heads, kv_heads) = d.field in LABELLED, heads_of(m)
    rows, columns = patch_of(config) if grid else (1, 1)
    if grid and not (d.height and d.width and d.channels and d.classes):
        raise UserError(
            f"config.data: height={d.height}, width={d.width}, channels={d.channels}, "
            f"classes={d.classes}: give the sizes of the examples of {d.name} and the number of "
            "its classes"
        )
    return Shape(
        depth=m.depth,
        width=m.width,
        head_dim=m.head_dim,
        mlp_width=m.mlp_width,
        mlp_inputs=activations.of(m.mlp).inputs,
        vocab_size=d.classes if grid else d.vocab_size,
        seq_len=(d.height // rows) * (d.width // columns) if grid else d.seq_len,
        learned_positions=m.positions == "learned",
        qk_norm=m.qk_norm,
        tied_head=m.tied_head,
        heads=heads,
        kv_heads=kv_heads,
        bias=m.bias,
        norm_bias=m.bias == "all" and m.norm == "layernorm",
        kind=m.kind,
        kernel=m.kernel if m.kind == "cnn" else 0,
        window=m.window if m.kind == "mlp" and not grid else 0,
        grid=grid,
        patch_size=rows * columns * d.channels if grid else 0,
        experts=m.experts,
        experts_per_token=m.experts_per_token if m.experts else 0,
    )


def patch_of(config: ConfigDict) -> tuple[int, int]:
    """(rows, columns) of a patch: the config's, or of the whole grid without a mixer (`mlp`)."""
    m, d = config.model, config.data
    return (d.height, d.width) if m.kind == "mlp" else (m.patch_height, m.patch_width)


def _mixer(s: Shape) -> int:
    """Return the parameter count of one block's mixer."""
    D = s.width
    return {
        "transformer": 2 * D * s.head_dim * (s.heads + s.kv_heads),
        "lstm": 9 * D * D,
        "lru": 5 * D * D + 2 * D,
        "cnn": s.kernel ** (2 if s.grid else 1) * D,
        "mlp": 0,
    }[s.kind]


def _biases(s: Shape) -> int:
    """Return the parameter count of all biases: of qkv, outputs, MLPs and norms."""
    qkv = (s.heads + 2 * s.kv_heads) * s.head_dim if s.bias != "none" else 0
    rest = 2 * s.width + s.mlp_inputs * s.mlp_width if s.bias == "all" else 0
    return s.depth * (qkv + rest) + (_norms(s) if s.norm_bias else 0)


def _norms(s: Shape) -> int:
    """Return the channels of all norms of the width."""
    halves = 1 if s.kind == "mlp" else 2  # of a block, each with its norm
    return (halves * s.depth + 1) * s.width


def param_groups(s: Shape) -> dict[str, int]:
    """Return parameter counts by group. `tests/test_accounting.py` compares the sum to a model."""
    D, F, L = s.width, s.mlp_width, s.depth
    qk_scales = 2 * s.head_dim * L if s.qk_norm else 0
    return {
        "embedding": (s.patch_size or s.vocab_size) * D,
        "positions": s.seq_len * D if s.learned_positions else 0,
        "window": s.window * D * D,
        "mixer": _mixer(s) * L,
        "mlp": (s.mlp_inputs + 1) * D * F * L * max(1, s.experts),
        "router": D * s.experts * L,
        "norms": _norms(s) + qk_scales,
        "biases": _biases(s),
        "head": 0 if s.tied_head else D * s.vocab_size,
    }


def param_counts(s: Shape) -> dict[str, int]:
    """Count parameters: `n_params` (no embeddings, positions or head), `n_params_active` of them
    that a token uses, `n_params_with_head`, and `n_params_total`.

    A tied head counts in `n_params_with_head`, since its product is computed, but only once in
    `n_params_total`.
    """
    groups = param_groups(s)
    n_params = sum(groups[name] for name in N_PARAMS)
    unused = groups["mlp"] * (s.experts - s.experts_per_token) // max(1, s.experts)
    return {
        "n_params": n_params,
        "n_params_active": n_params - unused,
        "n_params_with_head": n_params + s.width * s.vocab_size,
        "n_params_total": sum(groups.values()),
    }


def forward_flops_per_token(s: Shape, lookup_as_product: bool = False) -> dict[str, int]:
    """Return the FLOPs of a forward pass by part, of one token or of all positions of a grid.

    As in Hoffmann et al. 2022, appendix F: a multiplication and an addition count as two; norms,
    activations and rotations are left out.
    """
    D, F, L, T, V = s.width, s.mlp_width, s.depth, s.seq_len, s.vocab_size
    if s.kind == "transformer":
        H, N, K = s.heads, s.kv_heads, s.head_dim
        mixer = {
            "qkv": L * 2 * D * K * (H + 2 * N),
            "attention_logits": L * 2 * T * H * K,
            "attention_softmax": L * 3 * H * T,
            "attention_values": L * 2 * T * H * K,
            "attention_output": L * 2 * H * K * D,
        }
    elif s.kind == "lru":
        mixer = {"mixer": L * 2 * 5 * D * D, "recurrence": L * 8 * D}
    else:
        mixer = {"window": 2 * s.window * D * D, "mixer": L * 2 * _mixer(s)}
    trunk = {
        "embedding": 2 * s.patch_size * D or (2 * V * D if lookup_as_product else 0),
        **mixer,
        "router": L * 2 * D * s.experts,
        "mlp": L * 2 * (s.mlp_inputs + 1) * D * F * (s.experts_per_token if s.experts else 1),
    }
    per_unit = T if s.grid else 1
    return {name: per_unit * flops for name, flops in trunk.items()} | {"head": 2 * D * V}


@dataclass(frozen=True)
class Built:
    """What a built model holds; counted in programs/step_functions.py."""

    total: int  # parameters
    blocks: int  # of them in the blocks
    products: int  # forward FLOPs per position of the weights of blocks and window


def check_built(s: Shape, built: Built) -> None:
    """Raise UserError unless the counts of a shape are those of the model built for it."""
    groups, flops = param_groups(s), forward_flops_per_token(s)
    names = ("window", "mixer", "router", "mlp", "qkv", "attention_output")
    counted = Built(
        total=sum(groups.values()),
        blocks=sum(groups[name] for name in N_PARAMS if name != "window")
        - s.width * (1 + s.norm_bias),  # without the final norm
        products=sum(flops.get(name, 0) for name in names) // (s.seq_len if s.grid else 1),
    )
    for name, what in (
        ("total", "parameters"),
        ("blocks", "parameters of the blocks"),
        ("products", "FLOPs per position of the blocks' products"),
    ):
        if (ours := getattr(counted, name)) != (real := getattr(built, name)):
            raise UserError(
                f"config.model: {ours:,} {what} are counted, but the model built has {real:,}; let "
                "scaling/accounting.py count what scaling/models builds"
            )


def flops_per_token(s: Shape, convention: str) -> int:
    """Training FLOPs (forward and backward) per token, or grid, by one of `CONVENTIONS`.

    Conventions that are multiples of parameters count a grid's head once, all else at every
    position.
    """
    n = param_counts(s)
    unused = n["n_params"] - n["n_params_active"]
    positions, head = (s.seq_len if s.grid else 1), s.width * s.vocab_size
    if convention == "kaplan":
        return 6 * positions * n["n_params_active"]
    if convention == "porian":
        return 6 * (positions * n["n_params_active"] + head)
    if convention == "chinchilla":
        heads = 0 if s.tied_head else head
        return 6 * (positions * (n["n_params_total"] - unused - heads) + heads)
    if convention in ("exact", "appendix_f"):
        return 3 * sum(forward_flops_per_token(s, convention == "appendix_f").values())
    raise ValueError(f"unknown FLOP convention {convention!r}; choose one of {CONVENTIONS}")


def training_flops(s: Shape, tokens: int) -> dict[str, float]:
    """Return the FLOPs of a run of `tokens`, by convention, as the columns `flops_<convention>`."""
    return {f"flops_{c}": float(flops_per_token(s, c) * tokens) for c in CONVENTIONS}


def tokens_for_budget(s: Shape, flops: float, tokens_per_step: int, convention: str) -> int:
    """Return tokens, in whole steps, whose training costs at most `flops`.

    Raises UserError if the budget does not pay for one step.
    """
    per_step = flops_per_token(s, convention) * tokens_per_step
    steps = math.floor(flops / per_step)
    if steps < 1:
        raise UserError(
            f"config.sweep.budgets: {flops:.3g} FLOPs do not pay for one step of "
            f"{tokens_per_step} tokens at width {s.width}, depth {s.depth} ({per_step:.3g} FLOPs); "
            "raise the budget or lower config.train.batch_size"
        )
    return steps * tokens_per_step
