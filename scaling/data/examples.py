"""Prepare labelled examples as arrays, cached on disk, hashed, and checked on use.

A cache entry is a folder `examples/<name>-<key>/` with `<split>_x.bin`, `<split>_y.bin` and
`<split>_group.bin` of both splits, and `meta.json`. Shapes: N examples; H, W, C as in labelled.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from scaling.data import cache, catalogue, labelled
from scaling.data.labelled import Corrupt, Example, Source
from scaling.utils import signals
from scaling.utils.errors import UserError

FORMAT = 1
SPLITS, PARTS = ("train", "valid"), ("x", "y", "group")


@dataclass(frozen=True)
class Examples:
    """Both splits, memory-mapped; images are uint8, log-mel grids float32."""

    train_x_NHWC: np.ndarray
    train_y_N: np.ndarray  # int32
    valid_x_NHWC: np.ndarray
    valid_y_N: np.ndarray
    classes: tuple[str, ...]  # names, index = label
    groups: tuple[np.ndarray, np.ndarray]  # uint64 ids of (train, valid), disjoint
    fingerprint: str  # of the raw content, the settings and the split
    skipped: tuple[str, ...]  # unreadable examples, by name
    folder: Path


def prepare(data) -> Examples:
    """Return the examples of the config's `data` section, from the cache or prepared now.

    Without config.data.valid_split, the validation split is config.data.valid_fraction of the
    groups of the training split, each drawn by its own hash. Otherwise it is that split of the
    source, and training examples of its groups are excluded.

    Raises UserError if data are missing, damaged or of other sizes than in config.data, if a class
    has no training example, or if more than config.data.max_corrupt of them are unreadable.
    """
    root = cache.root(data)
    source = catalogue.source(data, root)
    name = data.name.replace("/", "_")
    _check_sizes(data, source)
    for key in ("train_split", "valid_split"):
        split = getattr(data, key)
        if split not in source.splits and (split or key == "train_split"):
            raise UserError(
                f"config.data.{key}={split!r}: {data.name} has {', '.join(source.splits)}"
            )
    if data.train_split == data.valid_split:
        raise UserError(
            f"config.data.valid_split={data.valid_split!r} is config.data.train_split, too"
        )
    settings = {
        "format": FORMAT,
        "field": data.field,
        "name": data.name,
        "splits": [data.train_split, data.valid_split or ""],
        "valid_fraction": 0 if data.valid_split else data.valid_fraction,
        "shape": source.shape,
    }
    parts = json.dumps({**settings, "source": source.identity()}, sort_keys=True)
    key = hashlib.sha256(parts.encode()).hexdigest()[:12]
    folder = root / "examples" / f"{data.field}-{name}-{key}"
    if not cache.is_complete(folder):
        _build(data, source, settings, folder)
    with cache.meta_of(folder) as meta:
        return _load(data, folder, meta)


def _check_sizes(data, source: Source) -> None:
    sizes = {
        **dict(zip(("height", "width", "channels"), source.shape, strict=True)),
        "classes": len(source.classes),
    }
    if any(getattr(data, key) != value for key, value in sizes.items()):
        raise UserError(
            "config.data: "
            + ", ".join(f"{key}={getattr(data, key)}" for key in sizes)
            + f" does not match {data.name}; set "
            + ", ".join(f"config.data.{key}={value}" for key, value in sizes.items())
        )


class _Writer:
    """The three files of a split, with counts and a hash of the examples written to them."""

    def __init__(self, files: dict[str, BinaryIO]):
        self.files = files
        self.labels: Counter[int] = Counter()
        self.groups: set[int] = set()
        self.digest = hashlib.sha256()

    def add(self, example: Example, group: int) -> None:
        self.files["x"].write(np.ascontiguousarray(example.x_HWC).tobytes())
        self.files["y"].write(np.int32(example.label).tobytes())
        self.files["group"].write(np.uint64(group).tobytes())
        self.labels[example.label] += 1
        self.groups.add(group)
        for part in (example.content, example.group, str(example.label).encode()):
            self.digest.update(hashlib.sha256(part).digest())


def _build(data, source: Source, settings: dict, folder: Path) -> None:
    corrupt: list[Corrupt] = []
    with cache.create_once(folder) as work:
        leaked = 0
        with contextlib.ExitStack() as open_files:
            writers = {}
            for split in SPLITS:
                paths = {part: work / f"{split}_{part}.bin" for part in PARTS}
                writers[split] = _Writer(
                    {part: open_files.enter_context(open(p, "wb")) for part, p in paths.items()}
                )
            for is_valid, example in _split(data, source):
                signals.check()
                if isinstance(example, Corrupt):
                    corrupt.append(example)
                    continue
                _check_example(example, source)
                group = labelled.group_id(example.group)
                if not is_valid and group in writers["valid"].groups:
                    leaked += 1
                else:
                    writers["valid" if is_valid else "train"].add(example, group)
        counts = {split: writer.labels.total() for split, writer in writers.items()}
        _check_counts(data, source, corrupt, counts, writers["train"].labels)
        if corrupt:
            first = "; ".join(f"{c.name}: {c.reason}" for c in corrupt[:3])
            more = f" and {len(corrupt) - 3} more, named in {folder / 'meta.json'}"
            print(
                f"warning: {len(corrupt)} unreadable examples skipped: "
                + first
                + (more if len(corrupt) > 3 else ""),
                file=sys.stderr,
            )
        names = [f"{split}_{part}.bin" for split in SPLITS for part in PARTS]
        meta = {
            **settings,
            "dtype": source.dtype.name,
            "classes": source.classes,
            "examples": counts,
            "per_class": {
                s: [w.labels[i] for i in range(len(source.classes))] for s, w in writers.items()
            },
            "in_both_splits": leaked,  # excluded from the training split
            "skipped": [c.name for c in corrupt],
            "content": {split: writer.digest.hexdigest() for split, writer in writers.items()},
            "sha256": {name: cache.file_hash(work / name) for name in names},
        }
        cache.write_meta(work, meta)


def _split(data, source: Source) -> Iterator[tuple[bool, Example | Corrupt]]:
    """Yield (is held out, example), the source's own validation split first."""
    bar = tqdm(unit="ex", unit_scale=True, desc="preparing examples", disable=None)
    with bar:
        if data.valid_split:
            for example in source.read(data.valid_split):
                bar.update()
                yield True, example
        for example in source.read(data.train_split):
            bar.update()
            held_out = (
                not data.valid_split
                and isinstance(example, Example)
                and labelled.group_id(example.group) / 2**64 < data.valid_fraction
            )
            yield held_out, example


def _check_example(example: Example, source: Source) -> None:
    if not 0 <= example.label < len(source.classes):
        raise UserError(
            f"{example.name}: label {example.label} is out of range, the {len(source.classes)} "
            f"classes are 0 to {len(source.classes) - 1}; correct it, or remove the example"
        )
    if example.x_HWC.shape != source.shape or example.x_HWC.dtype != source.dtype:
        raise UserError(
            f"{example.name}: {example.x_HWC.dtype} of {example.x_HWC.shape}, not {source.dtype} "
            f"of {source.shape}; remove it, or resize it"
        )


def _check_counts(data, source, corrupt: list[Corrupt], counts: dict[str, int], labels) -> None:
    total = sum(counts.values()) + len(corrupt)
    if len(corrupt) > data.max_corrupt * total:
        first = "; ".join(f"{c.name}: {c.reason}" for c in corrupt[:3])
        raise UserError(
            f"config.data.max_corrupt={data.max_corrupt}: {len(corrupt)} of {total} examples "
            f"cannot be read ({first}); restore or remove them, or raise it to skip them"
        )
    for split, count in counts.items():
        if not count:
            raise UserError(
                f"config.data: no example in the {split} split; change "
                f"config.data.valid_fraction={data.valid_fraction} or add examples"
            )
    empty = [name for i, name in enumerate(source.classes) if not labels[i]]
    if empty:
        raise UserError(
            f"config.data: class {empty[0]!r} has no training example ({len(empty)} of "
            f"{len(source.classes)} classes have none); add some, or change "
            f"config.data.valid_fraction={data.valid_fraction}"
        )


def _load(data, folder: Path, meta: dict) -> Examples:
    shape, arrays = tuple(meta["shape"]), {}
    for split, count in meta["examples"].items():
        for part, dtype, inner in (
            ("x", meta["dtype"], shape),
            ("y", "int32", ()),
            ("group", "uint64", ()),
        ):
            path = folder / f"{split}_{part}.bin"
            size = count * int(np.prod(inner, dtype=np.int64)) * np.dtype(dtype).itemsize
            cache.check_file(path, size, meta["sha256"][path.name])
            arrays[split, part] = np.memmap(path, dtype, "r", shape=(count, *inner))
    content = hashlib.sha256("".join(meta["content"].values()).encode()).hexdigest()
    if not content.startswith(data.hash or ""):
        raise UserError(
            f"config.data.hash={data.hash}: the examples' SHA-256 begins {content[:16]}; use the "
            "data this study was made with, or set config.data.hash to accept these"
        )
    settings = json.dumps(
        {k: meta[k] for k in ("format", "field", "shape", "classes")}, sort_keys=True
    )
    return Examples(
        train_x_NHWC=arrays["train", "x"],
        train_y_N=arrays["train", "y"],
        valid_x_NHWC=arrays["valid", "x"],
        valid_y_N=arrays["valid", "y"],
        classes=tuple(meta["classes"]),
        groups=(arrays["train", "group"], arrays["valid", "group"]),
        fingerprint=hashlib.sha256(f"{content}{settings}".encode()).hexdigest()[:16],
        skipped=tuple(meta["skipped"]),
        folder=folder,
    )
