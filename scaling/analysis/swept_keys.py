"""Which keys differ between the runs of a sweep: read from each run's config.json, so for any key
and any planner.

Keys that change together (a width and its MLP, zipped keys, a rule's learning rate and its size)
are one axis.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaling.config import hashing, keys
from scaling.results import RunResult
from scaling.utils import notices
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
        """The last part of the first key, lr of optim.lr, or all of it where another axis ends
        alike.
        """
        return self.keys[0] if self.whole else self.keys[0].rpartition(".")[2]

    @property
    def numeric(self) -> bool:
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    def positions(self) -> np.ndarray:
        """`[runs]` where each run stands on this axis: its value, or a number per value of text."""
        if self.numeric:
            return np.array(self.values, float)
        order = {v: i for i, v in enumerate(sorted(set(map(str, self.values))))}
        return np.array([order[str(v)] for v in self.values], float)


def configs(rows: Sequence[RunResult], workdir: Path) -> tuple[list[dict], list[Notice]]:
    """Return the flat config of every row, {} without one, and a notice for each of those."""
    found, missing = [], []
    for r in rows:
        path = workdir / "runs" / r.run_id / "config.json"
        try:
            found.append(_flat(json.loads(path.read_text())))
        except (OSError, ValueError, AttributeError):
            found.append({})
            text = f"{r.run_id}: no readable config.json, so its swept values are unknown"
            missing.append(Notice(notices.NO_CONFIG, text))
    return found, missing


def axes(flat: Sequence[Mapping[str, Any]]) -> list[Axis]:
    """The axes along which these configs differ, without the seed; keys that cannot change numbers
    left out.

    Keys that change together stand in alphabetical order, but the width before all.
    """
    defaults = keys.encoded(keys.DEFAULTS)  # as in the files
    found: list[list[Axis]] = []  # those that change together
    for key, default in defaults.items():
        if key == SEED or not _counts(key):
            continue
        axis = Axis((key,), tuple(_hashable(f.get(key, default)) for f in flat))
        if len(set(axis.values)) > 1:
            beside = next((group for group in found if _together(group[0], axis)), None)
            if beside is None:
                found.append([axis])
            else:
                beside.append(axis)
    joined = [_joined(group) for group in found]
    names = Counter(axis.name for axis in joined)
    return [replace(axis, whole=names[axis.name] > 1) for axis in joined]


def _together(one: Axis, other: Axis) -> bool:
    """Whether each value of one goes with one value of the other; numbers also rise or fall
    together, since random draws, all different, would otherwise be one axis.
    """
    pairs = set(zip(one.values, other.values, strict=True))
    if not len(pairs) == len(set(one.values)) == len(set(other.values)):
        return False
    if not (one.numeric and other.numeric):
        return True
    along = np.array(sorted(pairs), float)[:, 1]
    return bool((np.diff(along) > 0).all() or (np.diff(along) < 0).all())


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
