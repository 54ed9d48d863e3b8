"""Draw batches of augmented labelled examples, a pure function of (seed, k), sharded over hosts.

Shapes: K steps of one dispatch, B examples per step (of this host), N examples; H, W, C as in
labelled.py.
"""

from __future__ import annotations

import numpy as np

from scaling.data.augment import Augment
from scaling.data.pipeline import Order


class ExampleDispatches:
    """A random-access source: element k is the batch of the k-th dispatch.

    A batch is {"x": dtype of the examples, "y": int32}. Mixup adds "y2", int32, the label of the
    other example, and "mix", float32, the weight of y. An epoch visits every example once.
    """

    def __init__(
        self,
        x_NHWC: np.ndarray,
        y_N: np.ndarray,
        *,
        batch_size: int,
        steps: int,
        seed: int,
        augment: Augment | None = None,
        host: int = 0,
        hosts: int = 1,
    ):
        self.x_NHWC, self.y_N, self.augment = x_NHWC, y_N, augment or Augment()
        self.order = Order(
            len(y_N), batch_size=batch_size, steps=steps, seed=seed, host=host, hosts=hosts
        )

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, k: int) -> dict[str, np.ndarray]:
        epoch_KB, index_KB = self.order[k]
        batch = {
            "x": np.empty((*index_KB.shape, *self.x_NHWC.shape[1:]), self.x_NHWC.dtype),
            "y": self.y_N[index_KB],
        }
        if self.augment.mixup:
            batch["y2"] = np.empty_like(batch["y"])
            batch["mix"] = np.empty(index_KB.shape, np.float32)
        for epoch in np.unique(epoch_KB):
            in_epoch_KB = epoch_KB == epoch
            key, index_N = (self.order.seed, int(epoch)), index_KB[in_epoch_KB]
            x_NHWC = self.augment(self.x_NHWC[index_N], index_N, key)
            if self.augment.mixup:
                x_NHWC, partner_N, weight_N = self.augment.mix(
                    x_NHWC, index_N, key, len(self.y_N), self.x_NHWC.__getitem__
                )
                batch["y2"][in_epoch_KB] = self.y_N[partner_N]
                batch["mix"][in_epoch_KB] = weight_N
            batch["x"][in_epoch_KB] = x_NHWC
        return batch


def held_out_examples(size: int, count: int) -> np.ndarray:
    """Return `index_N` of `count` examples, spread evenly over `size`; of all if size < count."""
    count = min(count, size)
    return np.arange(count) * size // count
