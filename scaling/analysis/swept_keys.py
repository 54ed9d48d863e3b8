"""Find the keys that differ between the runs of a sweep, from the config.json of each run.

Keys that change together (a width and its MLP, zipped keys, a rule's learning rate and its size)
are one axis.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.config import hashing, keys
from scaling.results import RunResult
from scaling.utils import files, notices
from scaling.utils.errors import UserError
from scaling.utils.notices import Notice

SEED = "seed"


@dataclass(frozen=True)
class Axis:
    """Keys that change together, and the value of the first of them in every run."""

    keys: tuple[str, ...]
    values: tuple[Any, ...]  # one per run
    whole: bool = False  # another axis has a key of the same last part

    @property
    def name(self) -> str:
        """The last part of the first key (lr of optim.lr), or all of it if `whole`."""
        return self.keys[0] if self.whole else self.keys[0].rpartition(".")[2]

    @property
    def numeric(self) -> bool:
        """Return whether all values are numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    def positions(self) -> np.ndarray:
        """Return `[runs]` positions on this axis: the value, or a whole number per text."""
        if self.numeric:
            return np.array(self.values, float)
        order = {v: i for i, v in enumerate(sorted(set(map(str, self.values))))}
        return np.array([order[str(v)] for v in self.values], float)


def configs(rows: Sequence[RunResult], workdir: Path) -> tuple[list[dict], list[Notice]]:
    """Return the flat config of every row, and a notice for each unreadable one, which is {}."""
    flat, missing = [], []
    for r in rows:
        path = workdir / "runs" / r.run_id / "config.json"
        try:
            flat.append(_flat(files.read_json(path)))
        except UserError:
            flat.append({})
            text = f"{r.run_id}: no readable config.json, so its swept values are unknown"
            missing.append(Notice(notices.NO_CONFIG, text))
    return flat, missing


def axes(flat: Sequence[Mapping[str, Any]], followers: Collection[str] = ()) -> list[Axis]:
    """Return the axes along which these configs differ, `[runs]` values each.

    The seed, keys that cannot change numbers, and `followers`, which a recipe sets by the others,
    are left out. Keys that change together are in
    alphabetical order, after the width.
    """
    defaults = keys.encoded(keys.DEFAULTS)  # as in the files
    groups: list[list[Axis]] = []  # axes that change together
    for key, default in defaults.items():
        if key == SEED or key in followers or not _counts(key):
            continue
        axis = Axis((key,), tuple(_hashable(f.get(key, default)) for f in flat))
        if len(set(axis.values)) > 1:
            match = next((group for group in groups if _together(group[0], axis)), None)
            if match is None:
                groups.append([axis])
            else:
                match.append(axis)
    joined = [_joined(group) for group in groups]
    names = Counter(axis.name for axis in joined)
    return [replace(axis, whole=names[axis.name] > 1) for axis in joined]


def _together(one: Axis, other: Axis) -> bool:
    """Return whether each value of one axis belongs to one value of the other.

    Numbers must also rise or fall together. Otherwise random draws, which all differ, would be one
    axis.
    """
    pairs = set(zip(one.values, other.values, strict=True))
    if not len(pairs) == len(set(one.values)) == len(set(other.values)):
        return False
    if not (one.numeric and other.numeric):
        return True
    values = np.array(sorted(pairs), float)[:, 1]
    return bool((np.diff(values) > 0).all() or (np.diff(values) < 0).all())


def _joined(group: list[Axis]) -> Axis:
    first = next((axis for axis in group if axis.keys == ("model.width",)), group[0])
    others = [axis.keys[0] for axis in group if axis is not first]
    return Axis((*first.keys, *others), first.values)


def _counts(key: str) -> bool:
    return key in hashing.NAMES_RUN


def _flat(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        else:
            flat[before + key] = value
    return flat


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
