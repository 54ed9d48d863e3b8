"""Draw batches as a pure function of (seed, k), with random access, sharded over hosts.

Shapes: K steps of one dispatch, B sequences per step (of this host), T positions.

Sequence i of an epoch is a window of T + 1 tokens. Neighbouring windows share one token, the input
of one and the target of the other. An epoch visits every window once, in the order of a Feistel
permutation, which gives any position without computing the whole order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from scaling.utils.errors import UserError

ROUNDS = 6


def permute(index: np.ndarray, size: int, key: tuple[int, int]) -> np.ndarray:
    """Return a pseudorandom permutation of range(size) at `index` (uint64), in O(len(index)).

    It is a balanced Feistel network with cycle walking (Black & Rogaway 2002). `key`: (seed,
    epoch).
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    out, outside = index.astype(np.uint64), np.ones(len(index), bool)
    while outside.any():  # less than 3/4 of the values fall outside, so a few passes
        left, right = out[outside] >> half, out[outside] & mask
        for r in range(ROUNDS):
            left, right = right, left ^ (mix(right, key, r) & mask)
        out[outside] = (left << half) | right
        outside = out >= np.uint64(size)
    return out


def mix(x: np.ndarray, key: tuple[int, int], r: int | str) -> np.ndarray:
    """Hash the value, the key and the round by splitmix64 (Steele et al. 2014)."""
    salt = int.from_bytes(hashlib.sha256(f"{key[0]}/{key[1]}/{r}".encode()).digest()[:8], "big")
    with np.errstate(over="ignore"):
        z = x * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


class Order:
    """The order of `size` items over the rows of dispatch k; each epoch has its own order.

    This host has B / hosts rows of the B rows of a step, from row host * B / hosts.
    """

    def __init__(self, size: int, *, batch_size: int, steps: int, seed: int, host=0, hosts=1):
        self.size, self.batch_size, self.steps, self.seed = size, batch_size, steps, seed
        share = batch_size // hosts
        self.rows = slice(host * share, (host + 1) * share)

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (epoch_KB, index_KB), int64."""
        per_dispatch = self.steps * self.batch_size
        position = k * per_dispatch + np.arange(per_dispatch, dtype=np.int64)
        position_KB = position.reshape(self.steps, self.batch_size)[:, self.rows]
        epoch_KB, offset_KB = np.divmod(position_KB, self.size)
        index_KB = np.empty_like(offset_KB)
        for e in np.unique(epoch_KB):
            in_epoch_KB = epoch_KB == e
            offset_N = offset_KB[in_epoch_KB]
            index_KB[in_epoch_KB] = permute(offset_N, self.size, (self.seed, int(e)))
        return epoch_KB, index_KB


class Source(Protocol):
    """Random access to dispatches: element k is a pure function of (seed, k)."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int) -> Any: ...


class Dispatches:
    """A random-access source: element k is the `tokens_KBT1` of the k-th dispatch."""

    def __init__(
        self,
        tokens: np.ndarray,
        *,
        seq_len: int,
        batch_size: int,
        steps: int,
        seed: int,
        unique: int = 0,
        host: int = 0,
        hosts: int = 1,
    ):
        """`unique`: use windows of only this many tokens.

        They are drawn from the whole split, since sources are sorted, and a smaller draw is part
        of every larger one.
        """
        self.all_windows = (len(tokens) - 1) // seq_len
        self.windows = min(self.all_windows, unique // seq_len) if unique else self.all_windows
        if self.windows < 1:
            if unique:
                raise UserError(
                    f"config.data.unique_tokens={unique} is less than one sequence of "
                    f"config.data.seq_len={seq_len}"
                )
            raise UserError(
                f"config.data: {len(tokens)} training tokens do not fill one sequence of "
                f"config.data.seq_len={seq_len}; add documents"
            )
        # a view: window i starts at token i * seq_len and has one more token, the last target
        self.rows = np.lib.stride_tricks.sliding_window_view(tokens, seq_len + 1)[::seq_len]
        self.order = Order(
            self.windows, batch_size=batch_size, steps=steps, seed=seed, host=host, hosts=hosts
        )

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, k: int) -> np.ndarray:
        _, window_KB = self.order[k]
        if self.windows < self.all_windows:
            window_N = permute(window_KB.ravel().astype(np.uint64), self.all_windows, (0, 0))
            window_KB = window_N.reshape(window_KB.shape)
        return np.asarray(self.rows[window_KB])


def iterate(source: Source, start: int, prefetch: int) -> Iterator[Any]:
    """Yield elements start, start + 1, ..., prefetched by grain; any start costs the same."""
    import grain  # its import takes as long as a small training step, so defer it

    options = grain.ReadOptions(num_threads=1 if prefetch else 0, prefetch_buffer_size=prefetch)
    iterator = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    if start:
        iterator.set_state({"next_index": start})
    return iterator


def held_out_windows(tokens: np.ndarray, *, seq_len: int, count: int) -> np.ndarray:
    """Return `tokens_NT1`: windows of `count` tokens, spread evenly over the validation split.

    Raises UserError if the split is smaller.
    """
    begins_N = held_out_begins(tokens, seq_len=seq_len, count=count)
    return np.asarray(tokens[begins_N[:, None] + np.arange(seq_len + 1)])


def held_out_begins(tokens: np.ndarray, *, seq_len: int, count: int) -> np.ndarray:
    """Return the first token of each of these windows, `[N]`."""
    chosen, windows = max(1, count // seq_len), (len(tokens) - 1) // seq_len
    if chosen > windows:
        raise UserError(
            f"config.eval.tokens={count}: the validation split has {len(tokens)} tokens; lower it "
            "or raise config.data.valid_fraction"
        )
    return np.arange(chosen) * windows // chosen * seq_len
