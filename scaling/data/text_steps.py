"""Clean and filter documents before they are split and tokenised; every step is off by default.

The order is: Unicode NFC, length, share of letters, exact duplicates, near-duplicates. Lengths are
in characters, after NFC. Each step counts the documents that it removed.
"""

from __future__ import annotations

import array
import hashlib
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from scaling.data import near
from scaling.utils import signals

TRAIN, VALID, REMOVED = 0, 1, 2  # fates of a document


@dataclass(frozen=True)
class Steps:
    """The switches of the config's `data` section."""

    clean: bool  # Unicode NFC
    min_chars: int
    max_chars: int  # 0 = no limit
    min_letters: float  # least share of letters, marks, digits and white space
    dedupe: str  # none | exact | near | split
    near_threshold: float

    def settings(self) -> dict:
        """Return the steps that are on, as part of a cache key and a fingerprint."""
        values = {
            key: getattr(self, key) for key in ("clean", "min_chars", "max_chars", "min_letters")
        }
        settings = {key: value for key, value in values.items() if value}
        if self.dedupe != "none":
            settings["dedupe"] = self.dedupe
        if self.dedupe in ("near", "split"):
            settings |= {"near_threshold": self.near_threshold, **near.SETTINGS}
        return settings

    def apply(self, text: str) -> str:
        """Return the cleaned document."""
        return unicodedata.normalize("NFC", text) if self.clean else text

    def refuses(self, text: str) -> str:
        """Return the step that removes this document by itself, or ""."""
        if len(text) < self.min_chars:
            return "min_chars"
        if self.max_chars and len(text) > self.max_chars:
            return "max_chars"
        if self.min_letters and letters(text) < self.min_letters:
            return "min_letters"
        return ""


def from_config(data) -> Steps:
    """Return the steps of the config's `data` section."""
    return Steps(**{name: getattr(data, name) for name in Steps.__dataclass_fields__})


def letters(text: str) -> float:
    """Return the share of letters, marks, digits and white space; 0 for an empty text."""
    counts = Counter(text)
    good = (n for c, n in counts.items() if c.isspace() or unicodedata.category(c)[0] in "LMN")
    return sum(good) / max(1, len(text))


def draw(text: str, seed: int = 0) -> float:
    """Return a number in [0, 1) from a hash of seed and document, independent of its position."""
    salt = f"{seed}\n" if seed else ""
    return int.from_bytes(hashlib.sha256((salt + text).encode("utf-8")).digest()[:8], "big") / 2**64


@dataclass
class Plan:
    """The fate of each document by its number; held-out documents come first."""

    fates: bytearray = field(default_factory=bytearray)
    held_out: int = 0  # number of documents of the source's own held-out split
    removed: Counter[str] = field(default_factory=Counter)  # number of documents by step

    def remove(self, step: str) -> int:
        """Count a document that `step` removes; return its fate."""
        self.removed[step] += 1
        return REMOVED


def plan(
    documents: Iterable[str],
    held_out: Iterable[str] | None,
    fraction: float,
    steps: Steps,
    seed: int = 0,
) -> Plan:
    """Return the fates of the held-out documents, then of the others.

    The first of equal or similar documents stays, and held-out documents come first. With dedupe
    "split", similar documents all stay, on the side that the first of them draws. If one of them is
    in the source's own held-out split, those of the training split are removed.
    """
    result, seen = Plan(), set()
    index = near.NearIndex(steps.near_threshold) if steps.dedupe in ("near", "split") else None
    clusters = Clusters()
    draws = array.array("d")  # of each document
    valid, train = ((True, t) for t in held_out or ()), ((False, t) for t in documents)
    for number, (is_valid, raw) in enumerate(itertools.chain(valid, train)):
        signals.check()
        text = steps.apply(raw)
        result.held_out += is_valid
        draws.append(draw(text, seed))
        fate = VALID if is_valid or (held_out is None and draws[-1] < fraction) else TRAIN
        if step := steps.refuses(text):
            fate = result.remove(step)
        elif steps.dedupe in ("exact", "near"):
            digest = hashlib.sha256(text.encode("utf-8")).digest()
            if digest in seen:
                fate = result.remove("exact")
            seen.add(digest)
        if fate != REMOVED and index is not None:
            similar, sketch = index.near(text)
            if similar and steps.dedupe == "near":
                fate = result.remove("near")
            else:
                index.add(number, sketch)
                clusters.join(number, similar)
        result.fates.append(fate)
    if steps.dedupe == "split":
        _on_one_side(result, clusters, draws, fraction, held_out is not None)
    return result


class Clusters:
    """Disjoint sets of numbers, each represented by its least number (union-find)."""

    def __init__(self) -> None:
        self.parent: dict[int, int] = {}

    def first(self, number: int) -> int:
        """Return the least number of the set of `number`."""
        while (up := self.parent.get(number, number)) != number:
            number = up
        return number

    def join(self, number: int, others: list[int]) -> None:
        """Merge the sets of these numbers."""
        firsts = {self.first(other) for other in (number, *others)}
        for first in firsts:
            self.parent[first] = min(firsts)


def _on_one_side(
    result: Plan, clusters: Clusters, draws: Sequence[float], fraction: float, own_split: bool
):
    """Put all documents of a cluster on one side of the split."""
    for number, fate in enumerate(result.fates):
        first = clusters.first(number)
        if fate == REMOVED or first == number:
            continue
        if not own_split:
            result.fates[number] = VALID if draws[first] < fraction else TRAIN
        elif fate == TRAIN and result.fates[first] == VALID:
            result.fates[number] = result.remove("near a held-out document")
