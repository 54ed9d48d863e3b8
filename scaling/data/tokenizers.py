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

TOKENIZER = "tokenizer.json"
SEPARATOR = "<|separator|>"
# The first of these that a tokenizer.json has ends documents.
SEPARATORS = (SEPARATOR, "<|endoftext|>", "</s>", "<|end_of_text|>")
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
    """Byte-level BPE of the `tokenizers` package, loaded from a tokenizer.json.

    A document is encoded whole and as it is: the file's truncation, padding and dropout are off,
    and special tokens inside a text are text.
    """

    def __init__(self, path: Path):
        import tokenizers

        content = path.read_bytes()
        try:
            file = json.loads(content)
            file |= {"truncation": None, "padding": None}
            if "dropout" in file["model"]:
                file["model"]["dropout"] = None
            added = {token["content"]: token for token in file.get("added_tokens") or ()}
            for name in SEPARATORS:
                if name in added:
                    added[name]["special"] = True  # else it would be found in texts
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(file))
        except Exception as error:  # the package raises bare Exception
            reason = f"{type(error).__name__}: {error}"
            raise UserError(
                f"config.data.tokenizer_path={path}: no tokenizer.json ({reason}); save one with "
                "`Tokenizer.save` of the package tokenizers"
            ) from error
        decoder = file.get("decoder") or {}
        if "ByteLevel" not in json.dumps(decoder):
            raise UserError(
                f"{path}: its decoder is {decoder.get('type')}, not ByteLevel, so the bytes of a "
                "token are not known; use a byte-level BPE, as GPT-2's or Llama 3's"
            )
        self._tokenizer.encode_special_tokens = True  # encode them as other text
        self.path = path
        vocabulary = self._tokenizer.get_vocab()
        self.vocab_size = 1 + max(vocabulary.values())
        ids = [self._tokenizer.token_to_id(token) for token in SEPARATORS]
        if all(i is None for i in ids):
            raise UserError(
                f"config.data.tokenizer_path={path}: has none of the separator tokens "
                f"{', '.join(SEPARATORS)}; add one by `Tokenizer.add_special_tokens`"
            )
        self.separator = next(i for i in ids if i is not None)
        byte_of = _byte_of_character()
        self._bytes = [b""] * self.vocab_size
        for token, index in vocabulary.items():
            if token not in added and set(token) <= set(byte_of):
                self._bytes[index] = bytes(byte_of[character] for character in token)
            else:  # added tokens are written as they are
                self._bytes[index] = token.encode("utf-8")
        self._lengths = np.array([len(content) for content in self._bytes], np.int64)
        self._lengths[self.separator] = 1
        self.fingerprint = "bpe:" + hashlib.sha256(content).hexdigest()[:16]

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """Raises UserError for a text that its tokens do not hold byte by byte."""
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        encoded = []
        for text, encoding in zip(texts, encodings, strict=True):
            real = text.encode("utf-8")
            listed = encoding.ids
            ids = np.asarray(listed, np.uint32)
            encoded.append(ids)
            ours = b"".join(map(self._bytes.__getitem__, listed))
            if ours != real or (ids == self.separator).any():
                pairs = enumerate(zip(ours, real, strict=False))
                place = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(real)))
                separators = " and separators" if (ids == self.separator).any() else ""
                raise UserError(
                    f"{self.path}: the document that begins {text[:40]!r} has {len(real):,} "
                    f"bytes, its tokens {len(ours):,}{separators}, other ones from byte "
                    f"{place:,} on; "
                    "remove what changes text, such as a normalizer or add_prefix_space, and give "
                    "each of the 256 bytes a token"
                )
        return encoded

    def decode(self, ids: Iterable[int]) -> str:
        return self._tokenizer.decode([i for i in ids if i != self.separator])

    def byte_lengths(self) -> np.ndarray:
        return self._lengths


def _byte_of_character() -> dict[str, int]:
    """Return the byte that each character stands for in byte-level BPE (GPT-2).

    Printable bytes of Latin-1 stand for themselves, the others are counted from 256 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + i): byte for i, byte in enumerate(others)
    }


def stored(folder: Path) -> Tokenizer:
    """Return the tokenizer that a folder keeps: its tokenizer.json, or bytes without one."""
    path = folder / TOKENIZER
    return BpeTokenizer(path) if path.is_file() else ByteTokenizer()


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
