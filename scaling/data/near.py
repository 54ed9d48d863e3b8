"""Find near-duplicate documents by MinHash of runs of words (Broder 1997) and datasketch's LSH."""

from __future__ import annotations

import re

import numpy as np

from scaling.utils.errors import UserError

WORD = re.compile(r"\w+")
RUN = 5  # words
PERMUTATIONS = 128  # the standard deviation of an estimated similarity s is sqrt(s (1 - s) / 128)
RECALL = 0.99  # of pairs at the threshold
SETTINGS = {"run": RUN, "permutations": PERMUTATIONS, "scheme": "affine32", "recall": RECALL}


class NearIndex:
    """An index of documents by number that finds those similar to a text.

    The similarity is the estimated Jaccard index of the sets of runs of 5 words. LSH examines 99%
    of the pairs at the threshold, and more of those above it.
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
        """Return (sorted numbers of similar documents, the sketch of the text for `add`)."""
        sketch = self._minhash(PERMUTATIONS, seed=1, scheme="affine32")
        sketch.update_batch(runs(text))
        similar = (
            i
            for i in self._lsh.query(sketch)
            if np.mean(self._hashes[i] == sketch.hashvalues) >= self.threshold
        )
        return sorted(similar), sketch

    def add(self, number: int, sketch) -> None:
        """Add a document to the index."""
        self._lsh.insert(number, sketch, check_duplication=False)
        self._hashes[number] = sketch.hashvalues


def bands(threshold: float) -> tuple[int, int]:
    """Return (bands b, rows r) of LSH with the most rows that reach RECALL, else one row.

    LSH finds a pair at the threshold s with the probability 1 - (1 - s^r)^b.
    """
    choices = ((PERMUTATIONS // rows, rows) for rows in range(PERMUTATIONS // 2, 0, -1))
    return next(
        ((b, r) for b, r in choices if 1 - (1 - threshold**r) ** b >= RECALL), (PERMUTATIONS, 1)
    )


def runs(text: str) -> list[bytes]:
    """Return the distinct runs of 5 words, lower case, sorted; a shorter text as a whole."""
    words = [word.lower() for word in WORD.findall(text)]
    return sorted(
        {" ".join(words[i : i + RUN]).encode() for i in range(max(1, len(words) - RUN + 1))}
    )
