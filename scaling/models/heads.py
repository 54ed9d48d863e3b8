"""Count the attention heads of a config's `model` section. Counting needs no jax."""

from __future__ import annotations

from typing import Any


def heads_of(model: Any) -> tuple[int, int]:
    """Return (H, N): query heads, and key-value heads. Each of these serves H / N query heads."""
    heads = model.heads or model.width // model.head_dim
    return heads, model.kv_heads or heads
