"""Describe prepared text: sizes, lengths, duplicates, overlap of the splits, excerpts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from scaling.data import cache
from scaling.data.prepare import TokenData
from scaling.utils import signals

CHUNK = 1 << 22  # tokens looked at together
QUANTILES = {"shortest": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "99%": 0.99, "longest": 1.0}
RUNS = 1000  # of held-out tokens that are searched in the training split
RUN_BYTES = 64  # least length of a run on average; it has 2^k tokens
EXCERPTS, EXCERPT = 10, 80  # number, characters


def describe(data: TokenData) -> dict[str, Any]:
    """Return the description, ready for JSON. Lengths are in tokens, without separators."""
    splits = {"train": data.train, "valid": data.valid}
    ends = {name: _ends(tokens, data.separator) for name, tokens in splits.items()}
    hashes = {name: _hashes(tokens, ends[name]) for name, tokens in splits.items()}
    rows = [
        _split(name, tokens, ends[name], hashes[name], data.byte_lengths)
        for name, tokens in splits.items()
    ]
    run = RUN_BYTES
    while run > 8 and run // 2 * rows[0]["bytes_per_token"] >= RUN_BYTES:
        run //= 2
    both = np.isin(hashes["valid"], hashes["train"])
    sampled, found = _overlap(data, run)
    with cache.meta_of(data.folder) as meta:
        return {
            "splits": rows,
            "overlap": {
                "held_out_documents_in_train": int(both.sum()),
                "run_tokens": run,
                "held_out_runs": sampled,
                "held_out_runs_in_train": found,
            },
            "left_out": _left_out(meta),
            "excerpts": _excerpts(data, ends["train"]),
            "documents_hash": data.documents_hash,
            "fingerprint": data.fingerprint,
            "folder": str(data.folder),
        }


def _chunks(tokens: np.ndarray, overlap: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (position, tokens from there), each with `overlap` tokens of the next one."""
    for at in range(0, len(tokens), CHUNK):
        signals.check()
        yield at, np.asarray(tokens[at : at + CHUNK + overlap])


def _ends(tokens: np.ndarray, separator: int) -> np.ndarray:
    """Return the positions of the separators."""
    found = [at + np.flatnonzero(chunk == separator) for at, chunk in _chunks(tokens)]
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _hashes(tokens: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return a 64-bit hash of each document."""
    hashes, begin = np.empty(len(ends), np.uint64), 0
    for i, end in enumerate(ends.tolist()):
        digest = hashlib.blake2b(tokens[begin:end].tobytes(), digest_size=8).digest()
        hashes[i], begin = int.from_bytes(digest, "little"), end + 1
    return hashes


def _split(
    name: str, tokens: np.ndarray, ends: np.ndarray, hashes: np.ndarray, byte_lengths: np.ndarray
) -> dict[str, Any]:
    counts = np.zeros(len(byte_lengths), np.int64)
    for _, chunk in _chunks(tokens):
        counts += np.bincount(chunk, minlength=len(counts))
    size = int(counts @ byte_lengths)
    lengths = np.diff(ends, prepend=-1) - 1
    quantiles = np.quantile(lengths, list(QUANTILES.values()), method="nearest")
    return {
        "split": name,
        "documents": len(ends),
        "tokens": len(tokens),
        "bytes": size,
        "bytes_per_token": size / len(tokens),
        **{label: int(value) for label, value in zip(QUANTILES, quantiles, strict=True)},
        "duplicates": len(hashes) - len(np.unique(hashes)),
    }


def _overlap(data: TokenData, run: int) -> tuple[int, int]:
    """Return (runs of held-out tokens drawn evenly, how many of them the training split has)."""
    count = min(RUNS, max(0, len(data.valid) - run + 1))
    begins = np.linspace(0, len(data.valid) - run, count, dtype=np.int64) if count else ()
    runs = [np.asarray(data.valid[at : at + run]) for at in begins]
    inside = [tokens for tokens in runs if not (tokens == data.separator).any()]
    if not inside:
        return 0, 0
    wanted = np.unique(np.concatenate([_run_hashes(tokens, run) for tokens in inside]))
    maybe = np.zeros(1 << 16, bool)  # by the last bits of a hash, to look most of them up at once
    maybe[wanted & 0xFFFF] = True
    found: set[int] = set()
    for _, chunk in _chunks(data.train, run - 1):
        hashes = _run_hashes(chunk, run)
        few = hashes[maybe[hashes & 0xFFFF]]
        found.update(few[np.isin(few, wanted)].tolist())
    return len(inside), sum(_run_hashes(tokens, run).item() in found for tokens in inside)


def _run_hashes(tokens: np.ndarray, run: int) -> np.ndarray:
    """Return the hash of the run of 2^k tokens that begins at each place."""
    hashes = (tokens.astype(np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
    length, factor = 1, 0xD6E8FEB86659FD93
    while length < run:
        hashes = hashes[:-length] * np.uint64(factor) + hashes[length:]
        hashes ^= hashes >> np.uint64(29)
        length, factor = 2 * length, factor * factor % 2**64
    return hashes


def _left_out(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is not in the splits: reason, number of documents, the first place if known."""
    rows = [
        {"reason": reason, "count": fault["count"], "first": fault["first"]}
        for reason, fault in meta.get("skipped", {}).items()
    ]
    removed = dict(meta.get("steps", {}).get("removed", {}))
    if meta.get("equal_to_held_out"):
        removed["equal to a held-out document"] = meta["equal_to_held_out"]
    return rows + [{"reason": r, "count": count, "first": None} for r, count in removed.items()]


def _excerpts(data: TokenData, ends: np.ndarray) -> list[dict[str, Any]]:
    """Return the beginnings of training documents, evenly spaced."""
    rows = []
    for i in np.unique(np.linspace(0, len(ends) - 1, EXCERPTS, dtype=np.int64)):
        begin = int(ends[i - 1]) + 1 if i else 0
        tokens = np.asarray(data.train[begin : min(int(ends[i]), begin + 4 * EXCERPT)])
        text = " ".join(data.tokenizer.decode(tokens.tolist()).split())[:EXCERPT]
        text = "".join(c if c.isprintable() else "\ufffd" for c in text)
        rows.append({"document": int(i) + 1, "tokens": int(ends[i]) - begin, "begins": text})
    return rows
