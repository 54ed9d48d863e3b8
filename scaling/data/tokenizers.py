"""Tokenise text as bytes or by BPE; the separator of documents counts as one byte of text."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from scaling.utils.errors import UserError

SEPARATOR = "<|separator|>"
BPE_TRAINING_DOCUMENTS = 100_000


class Tokenizer(Protocol):
    """Converts text to token ids and back."""

    vocab_size: int
    separator: int
    fingerprint: str

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Return the token ids of each text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids, without separators."""
        ...

    def byte_lengths(self) -> np.ndarray:
        """Return the bytes of UTF-8 text of each token id, `[vocab_size]` int64."""
        ...


class ByteTokenizer:
    """UTF-8 bytes; byte 0, which text never contains, is the separator."""

    vocab_size, separator, fingerprint = 256, 0, "bytes"

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encoded = [np.frombuffer(text.encode("utf-8"), np.uint8) for text in texts]
        for text, ids in zip(texts, encoded, strict=True):
            if (ids == self.separator).any():
                raise UserError(
                    f"the document that begins {text[:40]!r} holds a NUL byte, so it is not text; "
                    "leave it out of the data"
                )
        return encoded

    def decode(self, ids: Iterable[int]) -> str:
        return bytes(i for i in ids if i != self.separator).decode("utf-8", errors="replace")

    def byte_lengths(self) -> np.ndarray:
        return np.ones(256, np.int64)


class BpeTokenizer:
    """Byte-level BPE of the `tokenizers` package, loaded from a tokenizer.json."""

    def __init__(self, path: Path):
        import tokenizers

        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exception
            raise UserError(f"config.data.tokenizer_path={path}: {error}") from error
        decoder = json.loads(path.read_text()).get("decoder") or {}
        if "ByteLevel" not in json.dumps(decoder):
            raise UserError(
                f"{path}: its decoder is {decoder.get('type')}, not ByteLevel, so the bytes of a "
                "token are not known; use a byte-level BPE, as GPT-2's or Llama 3's"
            )
        self.vocab_size = self._tokenizer.get_vocab_size()
        known = (SEPARATOR, "<|endoftext|>", "</s>")
        ids = [self._tokenizer.token_to_id(token) for token in known]
        if all(i is None for i in ids):
            raise UserError(f"{path}: has none of the separator tokens {', '.join(known)}")
        self.separator = next(i for i in ids if i is not None)
        self.fingerprint = "bpe:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [np.asarray(e.ids, np.uint32) for e in encodings]

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([i for i in ids if i != self.separator])

    def byte_lengths(self) -> np.ndarray:
        # Byte-level BPE writes every byte as one printable character.
        lengths = np.zeros(self.vocab_size, np.int64)
        for token, index in self._tokenizer.get_vocab().items():
            lengths[index] = len(token)
        lengths[self.separator] = 1
        return lengths


def train_bpe(documents: Iterable[str], vocab_size: int, path: Path) -> None:
    """Train a byte-level BPE on the first documents and write it as `path` (tokenizer.json)."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.islice(documents, BPE_TRAINING_DOCUMENTS), trainer)
    tokenizer.save(str(path))
