"""Draw batches of users' sequences, a pure function of (seed, k), sharded over hosts.

Shapes: K steps of one dispatch, B sequences per step (of this host), U users, N sequences, T
positions.

The model trains on the history of a user: all items but the last, which is held out. If whole users
are held out, it trains on all items of the others. A history is cut into windows of T + 1 items,
from its end. Neighbouring windows share one item, the input of one and the target of the other, so
that each item but the first is a target once per epoch. (SASRec uses only the last window.) A
window of fewer items is padded on the left with 0, which is never a target.
"""

from __future__ import annotations

import itertools

import numpy as np

from scaling.data import augment, labelled
from scaling.data.interactions import Interactions
from scaling.data.pipeline import Order
from scaling.utils.errors import UserError


class SequenceDispatches:
    """A random-access source: element k is the `tokens_KBT1` (int32) of the k-th dispatch."""

    def __init__(
        self,
        data: Interactions,
        *,
        seq_len: int,
        batch_size: int,
        steps: int,
        seed: int,
        held_out_U: np.ndarray | None = None,
        drop_items: float = 0.0,
        host: int = 0,
        hosts: int = 1,
    ):
        self.data, self.seq_len, self.drop_items = data, seq_len, drop_items
        self.history_U = history(data, held_out_U)
        # a history of one item has no target
        self.last_window_U = np.cumsum(-(-np.maximum(self.history_U - 1, 0) // seq_len))
        self.windows = int(self.last_window_U[-1])
        if self.windows < 1:
            raise UserError(
                "config.data: no user has two interactions to train on, apart from held-out ones"
            )
        self.order = Order(
            self.windows, batch_size=batch_size, steps=steps, seed=seed, host=host, hosts=hosts
        )

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, k: int) -> np.ndarray:
        epoch_KB, window_KB = self.order[k]
        window_N, epoch_N = window_KB.ravel(), epoch_KB.ravel()
        user_N = np.searchsorted(self.last_window_U, window_N, side="right")
        back_N = self.last_window_U[user_N] - 1 - window_N  # 0 is the last window of a user
        end_N = self.history_U[user_N] - back_N * self.seq_len
        tokens_NT1 = _windows(self.data, user_N, end_N, self.seq_len + 1)
        if self.drop_items:
            for epoch in np.unique(epoch_N):
                rows_N, key = epoch_N == epoch, (self.order.seed, int(epoch))
                draws = augment.uniform(key, window_N[rows_N], "drop", self.seq_len + 1)
                tokens_NT1[rows_N] = augment.drop(tokens_NT1[rows_N], draws, self.drop_items)
        return tokens_NT1.reshape(*window_KB.shape, self.seq_len + 1)


def held_out_users(data: Interactions, fraction: float) -> np.ndarray:
    """Return which users are held out (bool, [U]).

    The hash of a user's item names decides, so that equal users are on the same side.
    """
    names, begins = np.array(("", *data.names)), data.begins_U1
    parts = (names[data.items_I[a:b]] for a, b in itertools.pairwise(begins))
    return np.array(
        [labelled.group_id("\0".join(part).encode()) / 2**64 < fraction for part in parts]
    )


def history(data: Interactions, held_out_U: np.ndarray | None) -> np.ndarray:
    """Return the number of items of each user to train on, `[U]`."""
    items_U = np.diff(data.begins_U1)
    return items_U - 1 if held_out_U is None else np.where(held_out_U, 0, items_U)


def held_out_sequences(
    data: Interactions, *, seq_len: int, count: int, held_out_U: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return (`tokens_NT1`, `user_N`) of `count` targets, spread evenly over all; of all if fewer.

    Only the last column is a target: the last item of every user, or, if whole users are held out,
    any of their items but the first.
    """
    items_U = np.diff(data.begins_U1)
    targets_U = np.ones_like(items_U) if held_out_U is None else held_out_U * (items_U - 1)
    last_U = np.cumsum(targets_U)
    count = min(count, int(last_U[-1]))
    target_N = np.arange(count) * last_U[-1] // count
    user_N = np.searchsorted(last_U, target_N, side="right")
    end_N = items_U[user_N] - (last_U[user_N] - 1 - target_N)
    return _windows(data, user_N, end_N, seq_len + 1), user_N


def _windows(data: Interactions, user_N: np.ndarray, end_N: np.ndarray, length: int) -> np.ndarray:
    """Return the `length` items before position `end` of each user, padded on the left."""
    position_NT1 = end_N[:, None] + np.arange(-length, 0)
    index_NT1 = data.begins_U1[user_N][:, None] + np.maximum(position_NT1, 0)
    return np.where(position_NT1 >= 0, data.items_I[index_NT1], np.int32(0))
