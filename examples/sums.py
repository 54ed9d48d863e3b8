"""Sums as text: --config.plugins=sums --config.data.name=sums."""

import random

from scaling.utils.registry import SOURCES


@SOURCES.register("sums")
def sums(data):
    """Yield the documents, always in the same order. `data` is the config's section."""
    rng = random.Random(0)
    for _ in range(2000):
        a, b = rng.randrange(1000), rng.randrange(1000)
        yield f"{a} + {b} = {a + b}\n" * 8
