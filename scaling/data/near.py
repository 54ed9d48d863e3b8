"""Near-duplicates of documents: MinHash (Broder 1997) of runs of words, found through LSH by datasketch."""

from __future__ import annotations

import re

import numpy as np

from scaling.utils.errors import UserError

WORD = re.compile(r"\w+")
RUN = 5  # words
PERMUTATIONS = (
    128  # the estimate of a similarity s has the standard deviation sqrt(s (1 - s) / 128)
)
RECALL = 0.99  # of pairs at the threshold
SETTINGS = {"run": RUN, "permutations": PERMUTATIONS, "scheme": "affine32", "recall": RECALL}


class NearIndex:
    """Documents by number, to be asked which of them resemble a text.

    The similarity is the Jaccard index of the sets of runs of 5 words, estimated. LSH looks at 99 in 100
    of the pairs at the threshold, and at more of those above it.
    """

    def __init__(self, threshold: float):
        try:
            import datasketch
        except ImportError as error:
            raise UserError(
                "config.data.dedupe: near-duplicates need the package datasketch; "
                "pip install 'scaling[dedupe]'"
            ) from error
        self.threshold = threshold
        self._minhash = datasketch.MinHash
        params = bands(threshold)
        self._lsh = datasketch.MinHashLSH(threshold, PERMUTATIONS, params=params)
        self._hashes: dict[int, np.ndarray] = {}

    def near(self, text: str) -> tuple[list[int], object]:
        """(numbers of the documents that resemble it, sorted; what `add` takes for it)."""
        sketch = self._minhash(PERMUTATIONS, seed=1, scheme="affine32")
        sketch.update_batch(runs(text))
        found = (
            i
            for i in self._lsh.query(sketch)
            if np.mean(self._hashes[i] == sketch.hashvalues) >= self.threshold
        )
        return sorted(found), sketch

    def add(self, number: int, sketch) -> None:
        """Remember a document."""
        self._lsh.insert(number, sketch, check_duplication=False)
        self._hashes[number] = sketch.hashvalues


def bands(threshold: float) -> tuple[int, int]:
    """(bands b, rows r) of LSH with the most rows that still finds a pair at the threshold s with the
    probability 1 - (1 - s^r)^b >= RECALL; with one row where none does."""
    choices = ((PERMUTATIONS // rows, rows) for rows in range(PERMUTATIONS // 2, 0, -1))
    return next(
        ((b, r) for b, r in choices if 1 - (1 - threshold**r) ** b >= RECALL), (PERMUTATIONS, 1)
    )


def runs(text: str) -> list[bytes]:
    """The different runs of 5 words, lower case, sorted; the whole of a shorter text."""
    words = [word.lower() for word in WORD.findall(text)]
    return sorted(
        {" ".join(words[i : i + RUN]).encode() for i in range(max(1, len(words) - RUN + 1))}
    )
