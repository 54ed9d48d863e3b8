"""Write the token files of both splits in shards: after each, `progress.json` says how far.

A preparation that was stopped reads and hashes the documents of finished shards again. It does not
encode them again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from scaling.data import cache, encode
from scaling.data.tokenizers import Tokenizer
from scaling.utils import files

DOCUMENTS, CHARACTERS = 256, 1 << 20  # of a batch, at most; one document may be longer
SHARD = 64 << 20  # bytes of text
SPLITS = ("train", "valid")


def dtype(tokenizer: Tokenizer) -> np.dtype:
    """Return the type of a token in the files."""
    return np.min_scalar_type(tokenizer.vocab_size - 1)


def write(stream, digest, tokenizer: Tokenizer, work: Path, target: str) -> dict[str, int]:
    """Write `train.bin` and `valid.bin` and return their tokens.

    `stream` yields (is held out, document), and updates `digest` by each document it reads.
    `target` is the name of the complete folder. Raises UserError if the documents of finished
    shards have changed.
    """
    state: dict[str, Any] = {"documents": 0, "bytes": 0, "tokens": dict.fromkeys(SPLITS, 0)}
    if (work / cache.PROGRESS).is_file():
        state = files.read_json(work / cache.PROGRESS)
        finished = sum(1 for _ in itertools.islice(stream, state["documents"]))
        if finished < state["documents"] or digest.hexdigest() != state["digest"]:
            raise files.Damaged(
                f"{target}: its documents changed since their preparation was stopped; run again "
                "to begin anew"
            )
    kind, written = dtype(tokenizer), 0
    out = {name: _opened(work, name, state["tokens"][name] * kind.itemsize) for name in SPLITS}
    separator = np.asarray([tokenizer.separator], kind)
    try:
        with tqdm(
            unit="B", unit_scale=True, desc="tokenising", disable=None, initial=state["bytes"]
        ) as bar:
            for batch, ids in encode.encoded(_batches(stream, digest), tokenizer):
                for place, name in enumerate(SPLITS):
                    mine = (i for i, v in zip(ids, batch.held_out, strict=True) if v == place)
                    parts = [part for i in mine for part in (i.astype(kind, copy=False), separator)]
                    if parts:
                        tokens = np.concatenate(parts)
                        out[name].write(tokens.data)
                        state["tokens"][name] += len(tokens)
                size = sum(len(t) if t.isascii() else len(t.encode("utf-8")) for t in batch.texts)
                state["documents"] += len(batch.texts)
                state["bytes"] += size
                written += size
                bar.set_postfix_str(f"{state['documents']:,} documents", refresh=False)
                bar.update(size)
                if written >= SHARD:
                    written = 0
                    for file in out.values():
                        file.flush()
                        os.fsync(file.fileno())
                    progress = {**state, "digest": batch.digest, "target": target}
                    files.write_json(work / cache.PROGRESS, progress, seal=True)
    finally:
        for file in out.values():
            file.close()
    (work / cache.PROGRESS).unlink(missing_ok=True)
    return state["tokens"]


def _opened(work: Path, name: str, size: int) -> IO[bytes]:
    """Open a token file at the end of its finished shards."""
    path = work / f"{name}.bin"
    file = open(path, "r+b" if size else "wb")  # noqa: SIM115  closed by `write`
    file.truncate(size)
    file.seek(size)
    return file


def _batches(stream, digest) -> Iterator[encode.Batch]:
    texts: list[str] = []
    held_out: list[bool] = []
    size = 0
    for is_valid, text in stream:
        texts.append(text)
        held_out.append(is_valid)
        size += len(text)
        if len(texts) == DOCUMENTS or size >= CHARACTERS:
            yield encode.Batch(texts, held_out, digest.hexdigest())
            texts, held_out, size = [], [], 0
    if texts:
        yield encode.Batch(texts, held_out, digest.hexdigest())
