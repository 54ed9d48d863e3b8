"""Write, read and compare `<workdir>/sweep.json`, the config that all commands of a sweep share."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.parallel import multiprocess
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.storage import FolderStorage
from scaling.utils import files
from scaling.utils.errors import UserError

NAME = "sweep.json"
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
    if config_lib.sweep_hash(stored) == config_lib.sweep_hash(config):
        return
    ours = hashing.sweep_values(config)
    theirs = hashing.sweep_values(stored)
    changed = [key for key in ours if ours[key] != theirs.get(key)]
    raise UserError(
        f"--workdir={workdir} belongs to another sweep ({stored.name}); it differs in "
        f"{', '.join(changed[:5])}; choose another --workdir, or the config it was made with"
    )


def read(workdir: Path) -> ConfigDict:
    """Return the config of the workdir's sweep. Raises UserError if the workdir holds no sweep."""
    path = workdir / NAME
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no sweep; run `scaling sweep` first")
    stored = config_lib.from_json(files.read_json(path), path)
    with files.damage(path):
        if stored.sweep.kind == "none":
            raise ValueError("it is the config of a single run")
    return stored


def require(config: ConfigDict, workdir: Path) -> None:
    """Check that the workdir holds this sweep. Raises UserError otherwise."""
    read(workdir)
    create_or_check(config, workdir)
