"""Prepare each user's sequence of item ids, cached on disk, hashed, and checked on use.

A cache entry is a folder `interactions/<name>-<key>/` with `items.bin`, `begins.bin`,
`names.json` and `meta.json`. Shapes: I interactions, U users. Item 0 is padding.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scaling.data import cache, interaction_tables
from scaling.data.interaction_tables import Table
from scaling.utils.errors import UserError

FORMAT = 1


@dataclass(frozen=True)
class Interactions:
    """The items of all users, user by user, each in order of time; every user has two or more.

    The last item of a user is held out as the target of evaluation, the others are trained on
    (leave-one-out, as in SASRec, Kang & McAuley 2018).
    """

    items_I: np.ndarray  # int32, 1 to n_items, memory-mapped
    begins_U1: np.ndarray  # int64, the first index of each user's items, then their total number
    names: tuple[str, ...]  # names[i - 1] is that of item i; the most used comes first
    filtered: dict[str, int]  # users, items and interactions that data.min_uses removed
    single: int  # users removed for a single interaction
    fingerprint: str  # of the sequences and the names
    folder: Path

    @property
    def n_items(self) -> int:
        """Number of items, without padding."""
        return len(self.names)


def prepare(data) -> Interactions:
    """Return the interactions of the config's `data` section, from the cache or prepared now.

    Items and users of fewer than config.data.min_uses interactions are removed repeatedly until
    none is left (the k-core). Raises UserError if the table is missing, bad or empty, or
    config.data.vocab_size is not the number of items plus one.
    """
    root = cache.root(data)
    settings = {"format": FORMAT, "name": data.name, "min_uses": data.min_uses}
    parts = json.dumps({**settings, "source": interaction_tables.identity(data)}, sort_keys=True)
    key = hashlib.sha256(parts.encode()).hexdigest()[:12]
    folder = root / "interactions" / f"{data.name.replace('/', '_')}-{key}"
    if not cache.is_complete(folder):
        _build(interaction_tables.table(data, root), settings, folder)
    with cache.meta_of(folder) as meta:
        return _load(data, folder, meta)


def core(user_I: np.ndarray, item_I: np.ndarray, least: int) -> np.ndarray:
    """Return which interactions stay (bool, [I]).

    Users and items of fewer than `least` interactions are removed until none is left.
    """
    kept = np.ones(len(user_I), bool)
    while True:
        few = np.zeros(len(user_I), bool)
        for code_I in (user_I, item_I):
            few |= kept & (np.bincount(code_I[kept], minlength=code_I.max() + 1)[code_I] < least)
        if not few.any():
            return kept
        kept &= ~few


def _build(table: Table, settings: dict, folder: Path) -> None:
    least = settings["min_uses"]
    kept = core(table.user_I, table.item_I, least)
    per_user = np.bincount(table.user_I[kept], minlength=table.user_I.max() + 1)
    single = int((per_user == 1).sum())
    in_core = kept.copy()
    kept &= per_user[table.user_I] > 1
    if not kept.any():
        raise UserError(
            f"config.data: no user of two or more interactions is left of {len(kept)} "
            f"interactions; lower config.data.min_uses={least}, or add interactions"
        )
    if single:
        print(f"warning: {single} users of a single interaction left out", file=sys.stderr)
    user_I, item_I = table.user_I[kept], table.item_I[kept]
    order = np.lexsort((table.time_I[kept], user_I))  # stable: equal times keep the table's order
    user_I, item_I = user_I[order], item_I[order]
    uses = np.bincount(item_I, minlength=len(table.names))
    ranked = np.argsort(-uses, kind="stable")[: np.count_nonzero(uses)]
    new_id = np.zeros(len(uses), np.int32)
    new_id[ranked] = np.arange(1, len(ranked) + 1)
    begins = np.append(np.flatnonzero(np.diff(user_I, prepend=-1)), len(user_I))
    with cache.create_once(folder) as work:
        new_id[item_I].tofile(work / "items.bin")
        begins.astype(np.int64).tofile(work / "begins.bin")
        (work / "names.json").write_text(json.dumps([table.names[i] for i in ranked]))
        files = ("items.bin", "begins.bin", "names.json")
        meta = {
            **settings,
            "users": len(begins) - 1,
            "items": len(ranked),
            "interactions": len(item_I),
            "filtered": {
                "users": int((np.bincount(table.user_I) > 0).sum() - (per_user > 0).sum()),
                "items": len(np.unique(table.item_I)) - len(np.unique(table.item_I[in_core])),
                "interactions": int((~in_core).sum()),
            },
            "single": single,
            "size": {name: (work / name).stat().st_size for name in files},
            "sha256": {name: cache.file_hash(work / name) for name in files},
        }
        cache.write_meta(work, meta)


def _load(data, folder: Path, meta: dict) -> Interactions:
    for name, size in meta["size"].items():
        cache.check_file(folder / name, size, meta["sha256"][name])
    content = hashlib.sha256("".join(meta["sha256"].values()).encode()).hexdigest()
    if not content.startswith(data.hash or ""):
        raise UserError(
            f"config.data.hash={data.hash}: the interactions' SHA-256 begins {content[:16]}; use "
            "the data this study was made with, or set config.data.hash to accept these"
        )
    if data.vocab_size != meta["items"] + 1:
        raise UserError(
            f"config.data.vocab_size={data.vocab_size}: {data.name} has {meta['items']} items, and "
            f"0 is padding; set config.data.vocab_size={meta['items'] + 1}"
        )
    return Interactions(
        items_I=np.memmap(folder / "items.bin", np.int32, "r"),
        begins_U1=np.fromfile(folder / "begins.bin", np.int64),
        names=tuple(json.loads((folder / "names.json").read_text())),
        filtered=meta["filtered"],
        single=meta["single"],
        fingerprint=content[:16],
        folder=folder,
    )
