"""Parameters, FLOPs and tokens of a Transformer, from its shape alone.

Letters: D model width, H heads, K head size, F MLP width, G MLP input matrices (2 for SwiGLU),
V vocabulary, T context, L layers.

Causal attention is counted as if every position saw the whole context (T^2, not T^2 / 2), as in
Hoffmann et al. 2022 and most published counts; the chunked CPU attention does about half of it.
The backward pass counts as twice the forward pass; recomputation (remat) is not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ml_collections import ConfigDict

from scaling.errors import UserError

# Training FLOPs per token by convention.
#   kaplan      6 N                 N without embeddings and head  (Kaplan et al. 2020)
#   porian      6 (N + head)        adds the head's product        (Porian et al. 2024)
#   chinchilla  6 N_total           every parameter, the short form (Hoffmann et al. 2022)
#   exact       every product, attention included; the embedding is the look-up that it is
#   appendix_f  `exact` with the embedding counted as a product (Hoffmann et al. 2022, appendix F)
CONVENTIONS = ("exact", "appendix_f", "kaplan", "porian", "chinchilla")


@dataclass(frozen=True)
class Shape:
    """What parameters and FLOPs depend on; see `shape_of`."""

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


def shape_of(config: ConfigDict) -> Shape:
    m = config.model
    return Shape(
        depth=m.depth,
        width=m.width,
        head_dim=m.head_dim,
        mlp_width=m.mlp_width,
        mlp_inputs=2 if m.mlp == "swiglu" else 1,
        vocab_size=config.data.vocab_size,
        seq_len=config.data.seq_len,
        learned_positions=m.positions == "learned",
        qk_norm=m.qk_norm,
        tied_head=m.tied_head,
    )


def param_groups(s: Shape) -> dict[str, int]:
    """Parameters by group; `tests/test_accounting.py` asserts the sum against the real tree."""
    D, F, L = s.width, s.mlp_width, s.depth
    qk_scales = 2 * s.head_dim * L if s.qk_norm else 0
    return {
        "embedding": s.vocab_size * D,
        "positions": s.seq_len * D if s.learned_positions else 0,
        "attention": 4 * D * D * L,
        "mlp": (s.mlp_inputs + 1) * D * F * L,
        "norms": (2 * L + 1) * D + qk_scales,
        "head": 0 if s.tied_head else D * s.vocab_size,
    }


def param_counts(s: Shape) -> dict[str, int]:
    """`n_params` (no embeddings, positions or head), with the head's matrix, and all there are.

    A tied head counts in `n_params_with_head`, since its product is computed, but only once in
    `n_params_total`.
    """
    groups = param_groups(s)
    n_params = groups["attention"] + groups["mlp"] + groups["norms"]
    return {
        "n_params": n_params,
        "n_params_with_head": n_params + s.width * s.vocab_size,
        "n_params_total": sum(groups.values()),
    }


def forward_flops_per_token(s: Shape, lookup_as_product: bool = False) -> dict[str, int]:
    """FLOPs of one token's forward pass by part (Hoffmann et al. 2022, appendix F).

    A multiplication and an addition count as two; norms, activations and rotations are left out.
    """
    D, F, L, T, V = s.width, s.mlp_width, s.depth, s.seq_len, s.vocab_size
    heads = D // s.head_dim
    return {
        "embedding": 2 * V * D if lookup_as_product else 0,
        "qkv": L * 2 * 3 * D * D,
        "attention_logits": L * 2 * T * D,
        "attention_softmax": L * 3 * heads * T,
        "attention_values": L * 2 * T * D,
        "attention_output": L * 2 * D * D,
        "mlp": L * 2 * (s.mlp_inputs + 1) * D * F,
        "head": 2 * D * V,
    }


def flops_per_token(s: Shape, convention: str) -> int:
    """Training FLOPs (forward and backward) per token by one of `CONVENTIONS`."""
    n = param_counts(s)
    if convention == "kaplan":
        return 6 * n["n_params"]
    if convention == "porian":
        return 6 * n["n_params_with_head"]
    if convention == "chinchilla":
        return 6 * n["n_params_total"]
    if convention in ("exact", "appendix_f"):
        return 3 * sum(forward_flops_per_token(s, convention == "appendix_f").values())
    raise ValueError(f"unknown FLOP convention {convention!r}; choose one of {CONVENTIONS}")


def training_flops(s: Shape, tokens: int) -> dict[str, float]:
    """FLOPs of a run of `tokens`, by convention, as the columns `flops_<convention>`."""
    return {f"flops_{c}": float(flops_per_token(s, c) * tokens) for c in CONVENTIONS}


def tokens_for_budget(s: Shape, flops: float, tokens_per_step: int, convention: str) -> int:
    """Tokens, in whole steps, whose training costs at most `flops`.

    Raises UserError where the budget does not pay for one step.
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
