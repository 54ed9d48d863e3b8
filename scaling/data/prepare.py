"""Tokenise documents into files, cached on disk, hashed, and checked on use.

A cache entry is a folder `tokens/<name>-<key>/` with `train.bin`, `valid.bin` (token ids, documents
joined by the separator), `tokenizer.json` for BPE, and `meta.json`.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data import cache, sources, text_files, text_steps, token_files, tokenizers
from scaling.data.tokenizers import BpeTokenizer, ByteTokenizer, Tokenizer, train_bpe
from scaling.utils import signals
from scaling.utils.errors import UserError

log = logging.getLogger("scaling")

FORMAT = 1
OTHERS = ("byte_lengths.npy", "tokenizer.json")  # files that are not of a split
TRAINING_CHARACTERS = 100_000_000  # of files, from which a BPE is trained


@dataclass(frozen=True)
class TokenData:
    """Packed tokens of both splits, and their origin."""

    train: np.ndarray  # [train tokens] token ids, memory-mapped
    valid: np.ndarray  # [validation tokens]
    byte_lengths: np.ndarray  # [vocab_size] bytes of text per token
    fingerprint: str  # of documents, split and tokenizer
    documents_hash: str  # SHA-256 over the documents in order
    folder: Path

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the tokens."""
        return tokenizers.stored(self.folder)

    @property
    def separator(self) -> int:
        """The token that ends a document."""
        return self.tokenizer.separator


def prepare(data) -> TokenData:
    """Return the tokenised data of the config's `data` section, from the cache or prepared now.

    Raises UserError if documents are missing, their hash differs from `data.hash`, or the cache is
    damaged.
    """
    root = cache.root(data)
    folder = root / "tokens" / f"{data.name.replace('/', '_')}-{_cache_key(data)}"
    if not cache.is_complete(folder):
        _build(data, root, folder)
    with cache.meta_of(folder) as meta:
        return _load(data, folder, meta)


def _cache_key(data) -> str:
    tokenizer: dict = {"kind": data.tokenizer, "vocab": data.vocab_size}
    if data.tokenizer_path:
        path = Path(data.tokenizer_path).expanduser()
        if not path.is_file():
            raise UserError(f"config.data.tokenizer_path={path}: no such file")
        tokenizer["file"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if data.tokenizer == "bpe":  # earlier ones cut documents and took special tokens out of texts
        tokenizer["documents"] = "whole, as they are"
    parts = {
        "format": FORMAT,
        "source": sources.identity(data),
        **({"equal to held-out ones": "left out"} if data.valid_split else {}),
        "valid_fraction": data.valid_fraction,
        **({"split_seed": data.split_seed} if data.split_seed else {}),
        "tokenizer": tokenizer,
    }
    if settings := text_steps.from_config(data).settings():
        parts["steps"] = settings
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _build(data, root: Path, folder: Path) -> None:
    documents, held_out = sources.documents(data, root)
    with cache.create_once(folder, resume=True) as work:
        steps, plan = text_steps.from_config(data), None
        if steps.settings():
            plan = text_steps.plan(documents, held_out, data.valid_fraction, steps, data.split_seed)
        digest, unused = hashlib.sha256(), hashlib.sha256()
        split = functools.partial(_split, documents, held_out, data, steps, plan)
        training_texts = (text for is_valid, text in split(unused, []) if not is_valid)
        tokenizer = _tokenizer(data, work, training_texts)
        left_out: list[int] = []
        stream = split(digest, left_out)
        counts = token_files.write(stream, digest, tokenizer, work, folder.name)
        for name, count in counts.items():
            if not count:
                raise UserError(
                    f"config.data: no document in the {name} split; change "
                    f"config.data.valid_fraction={data.valid_fraction} or add documents"
                )
        meta = {
            "format": FORMAT,
            "dtype": token_files.dtype(tokenizer).name,
            "documents_hash": digest.hexdigest(),
            "tokenizer": tokenizer.fingerprint,
            "tokens": counts,
            "sha256": {name: cache.file_hash(work / f"{name}.bin") for name in counts},
            "equal_to_held_out": len(left_out),
        }
        np.save(work / "byte_lengths.npy", tokenizer.byte_lengths())
        # not under "sha256", which names the data: the fingerprint holds the tokenizer's already
        others = (work / name for name in OTHERS)
        meta["others"] = {path.name: cache.file_hash(path) for path in others if path.is_file()}
        if plan:
            meta["steps"] = {"settings": steps.settings(), "removed": dict(plan.removed)}
        if skipped := sources.faults(documents, held_out):
            meta["skipped"] = skipped
            _say(skipped)
        cache.write_meta(work, meta)


def _split(
    documents, held_out, data, steps, plan, digest, left_out: list[int]
) -> Iterator[tuple[bool, str]]:
    """Yield (is held out, document); the plan or the document's own hash decides.

    Training documents that equal one of the source's own held-out split are skipped, and their
    numbers appended to `left_out`.
    """
    seen = {_hash(text) for text in held_out or ()}
    for number, text in enumerate(documents, plan.held_out if plan else 0):
        signals.check()
        digest.update(text.encode("utf-8"))
        if seen and _hash(text) in seen:
            left_out.append(number)
        elif plan is None:
            drawn = text_steps.draw(text, data.split_seed) < data.valid_fraction
            yield held_out is None and drawn, text
        elif plan.fates[number] != text_steps.REMOVED:
            yield plan.fates[number] == text_steps.VALID, steps.apply(text)
    for number, text in enumerate(held_out or ()):
        digest.update(text.encode("utf-8"))
        if plan is None or plan.fates[number] != text_steps.REMOVED:
            yield True, steps.apply(text)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()[:12]


def _tokenizer(data, work: Path, training_texts: Iterable[str]) -> Tokenizer:
    if data.tokenizer == "bytes":
        return ByteTokenizer()
    path = work / "tokenizer.json"
    if data.tokenizer_path:
        shutil.copy(Path(data.tokenizer_path).expanduser(), path)
    elif not path.is_file():  # else of a preparation that was stopped
        if data.name in text_files.NAMES:
            training_texts = _first(training_texts, TRAINING_CHARACTERS)
        train_bpe(training_texts, data.vocab_size, path)
    tokenizer = BpeTokenizer(path)
    if tokenizer.vocab_size != data.vocab_size:
        raise UserError(
            f"config.data.vocab_size={data.vocab_size}: the tokenizer has {tokenizer.vocab_size}; "
            f"set config.data.vocab_size={tokenizer.vocab_size}"
        )
    return tokenizer


def _first(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Yield the first texts, until they have this many characters."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters <= 0:
            return


def _say(skipped: dict[str, dict]) -> None:
    """Log what was left out, in one line."""
    reasons = "; ".join(
        f"{reason} ({fault['count']:,}, first {fault['first']})"
        for reason, fault in skipped.items()
    )
    log.warning("warning: config.data.path: %s", reasons)


def _byte_lengths(folder: Path, meta: dict) -> np.ndarray:
    """Return the checked bytes of each token. Raises UserError naming a damaged file."""
    if others := meta.get("others"):
        for name, sha256 in others.items():
            cache.check_file(folder / name, None, sha256)
        return np.load(folder / "byte_lengths.npy")
    tokenizer = tokenizers.stored(folder)  # an older version stored no hash of these files
    if tokenizer.fingerprint != meta["tokenizer"]:
        raise cache.damaged(folder / "tokenizer.json")
    return tokenizer.byte_lengths()


def _load(data, folder: Path, meta: dict) -> TokenData:
    byte_lengths = _byte_lengths(folder, meta)
    dtype = np.min_scalar_type(len(byte_lengths) - 1)
    if dtype.name != meta["dtype"]:
        raise ValueError(f"dtype={meta['dtype']} of {len(byte_lengths)} tokens")
    for split, count in meta["tokens"].items():
        size = count * dtype.itemsize
        cache.check_file(folder / f"{split}.bin", size, meta["sha256"][split])
    if not meta["documents_hash"].startswith(data.hash or ""):
        raise UserError(
            f"config.data.hash={data.hash}: the documents' SHA-256 begins "
            f"{meta['documents_hash'][:16]}; use the documents this study was made with, or set "
            "config.data.hash to accept these"
        )
    parts = [meta["documents_hash"], meta["tokenizer"], *meta["sha256"].values()]
    if "steps" in meta:
        parts.append(json.dumps(meta["steps"], sort_keys=True))
    train: np.ndarray = np.memmap(folder / "train.bin", dtype, "r")
    if (data.unique_tokens or 0) > len(train):
        raise UserError(
            f"config.data.unique_tokens={data.unique_tokens}: the train split has {len(train)}"
        )
    return TokenData(
        train=train,
        valid=np.memmap(folder / "valid.bin", dtype, "r"),
        byte_lengths=byte_lengths,
        fingerprint=hashlib.sha256("".join(parts).encode()).hexdigest()[:16],
        documents_hash=meta["documents_hash"],
        folder=folder,
    )
