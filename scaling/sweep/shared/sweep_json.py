"""Write, read and compare `<workdir>/sweep.json`, the config that all commands of a sweep share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.parallel import multiprocess
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.storage import FolderStorage
from scaling.utils import files
from scaling.utils.errors import UserError

NAME = "sweep.json"
HISTORY = "history"  # its key with the growths of the sweep
EXTRA = "sweep.extra_sizes"  # the key that an adaptive sweep changes by itself
TUNE_NAME = "tune.json"  # of `scaling tune`, whose workdirs hold no sweep


def create_or_check(config: ConfigDict, workdir: Path) -> None:
    """Write the workdir's sweep.json, or check that the existing one is of the same sweep.

    Raises UserError naming the keys that differ, and in the workdir of a tuning.
    """
    if not multiprocess.writer():
        return
    if (workdir / TUNE_NAME).exists():
        raise UserError(f"--workdir={workdir} holds a tuning; choose a folder of the sweep's own")
    if not (workdir / NAME).is_file():
        content = files.json_bytes(config_lib.to_json(config))
        with files.report_unwritable(workdir / NAME):
            FolderStorage(workdir).create(NAME, content)  # False if another process was first
    # on an object store another machine's file may have been first; the push then fetches it
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, NAME)
    stored = read(workdir)
    if changed := differing(config, stored):
        raise other_sweep(workdir, stored, changed)


def is_of(config: ConfigDict, workdir: Path) -> bool:
    """Write sweep.json if the workdir has none; return whether it is of the config's sweep."""
    if not (workdir / NAME).is_file() or (workdir / TUNE_NAME).exists():
        create_or_check(config, workdir)
    return not differing(config, read(workdir))


def differing(config: ConfigDict, stored: ConfigDict) -> list[str]:
    """Return the keys of the sweep that differ between two configs."""
    if config_lib.sweep_hash(stored) == config_lib.sweep_hash(config):
        return []
    ours, theirs = hashing.sweep_values(config), hashing.sweep_values(stored)
    return [key for key in ours if ours[key] != theirs.get(key)]


def other_sweep(workdir: Path, stored: ConfigDict, keys: list[str], reason: str = "") -> UserError:
    """Return the error that a workdir belongs to another sweep, with the keys that differ."""
    return UserError(
        f"--workdir={workdir} belongs to another sweep ({stored.name}); it differs in "
        f"{', '.join(keys[:5])}{reason}; choose another --workdir, or the config it was made with"
    )


def grow(config: ConfigDict, workdir: Path, entry: dict[str, Any]) -> None:
    """Replace the config of sweep.json and add an entry to its history, atomically."""
    content = {**config_lib.to_json(config), HISTORY: [*history(workdir), entry]}
    files.write_json(workdir / NAME, content)


def history(workdir: Path) -> list[dict[str, Any]]:
    """Return the growths of the workdir's sweep, oldest first; none without a sweep."""
    path = workdir / NAME
    if not path.is_file():
        return []
    entries = files.read_json(path).get(HISTORY, [])
    with files.damage(path):
        for entry in entries:
            if not all(isinstance(entry[key], list) for key in ("added", "removed")):
                raise ValueError("its history is not lists of runs")
    return entries


def reasons(workdir: Path) -> dict[str, str]:
    """Return run id -> why an adaptive sweep added the run."""
    return {
        run_id: entry["why"]
        for entry in history(workdir)
        for run_id in entry["added"]
        if entry.get("why")
    }


def not_planned(workdir: Path) -> set[str]:
    """Return the run ids that the workdir's sweep planned before, and plans no longer."""
    removed: set[str] = set()
    for entry in history(workdir):
        removed = (removed | set(entry["removed"])) - set(entry["added"])
    return removed


def read(workdir: Path) -> ConfigDict:
    """Return the config of the workdir's sweep. Raises UserError if the workdir holds no sweep."""
    path = workdir / NAME
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no sweep; run `scaling sweep` first")
    content = {k: v for k, v in files.read_json(path).items() if k != HISTORY}
    stored = config_lib.from_json(content, path)
    with files.damage(path):
        if stored.sweep.kind == "none":
            raise ValueError("it is the config of a single run")
    return stored


def require(config: ConfigDict, workdir: Path) -> ConfigDict:
    """Return `adopted`. Raises UserError if the workdir does not hold this sweep."""
    read(workdir)
    config = adopted(config, workdir)
    create_or_check(config, workdir)
    return config


def adopted(config: ConfigDict, workdir: Path) -> ConfigDict:
    """Return the config with the sizes that the workdir's adaptive sweep has added so far."""
    if not config.sweep.adaptive or not (workdir / NAME).is_file():
        return config
    stored = read(workdir)
    stated, found = config.sweep.extra_sizes, stored.sweep.extra_sizes
    if differing(config, stored) != [EXTRA] or found[: len(stated)] != stated:
        return config
    return config_lib.with_values(config, {EXTRA: found})
