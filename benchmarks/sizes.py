"""Sizes that the benchmarks share. Peers of other environments read it: it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """A GPT of byte tokens and its batch. `dispatch` steps of it take one to seven seconds."""

    width: int
    depth: int
    head_dim: int
    mlp_width: int
    seq_len: int
    batch: int
    dispatch: int
    vocab: int = 256

    @property
    def heads(self) -> int:
        return self.width // self.head_dim

    @property
    def tokens_per_step(self) -> int:
        return self.batch * self.seq_len

    def overrides(self) -> dict[str, int]:
        """Return the config values of this size."""
        return {
            "model.width": self.width,
            "model.depth": self.depth,
            "model.head_dim": self.head_dim,
            "model.mlp_width": self.mlp_width,
            "data.seq_len": self.seq_len,
            "train.batch_size": self.batch,
        }


SIZES = {
    "XS": Size(32, 2, 16, 128, 128, 32, dispatch=64),
    "S": Size(128, 4, 32, 512, 256, 16, dispatch=8),
    "M": Size(384, 6, 64, 1536, 256, 8, dispatch=8),
}
