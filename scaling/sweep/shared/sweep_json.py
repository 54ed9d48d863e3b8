"""`<workdir>/sweep.json`: the config that a sweep was begun with, and that all who come later must share."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.parallel import multiprocess
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.storage import FolderStorage
from scaling.utils import files
from scaling.utils.errors import UserError

NAME = "sweep.json"


def create_or_check(config: ConfigDict, workdir: Path) -> None:
    """Write the workdir's sweep.json, or check that the one there is of the same sweep.

    Raises UserError naming the keys that differ.
    """
    if not multiprocess.writer():
        return
    if not (workdir / NAME).is_file():
        content = files.json_bytes(config_lib.to_json(config))
        with files.report_unwritable(workdir / NAME):
            FolderStorage(workdir).create(NAME, content)  # or another was first
    # on an object store another machine's may have been first, and then stands here
    workdir_url.retry(workdir_url.open_workdir(workdir).push_table, NAME)
    found = read(workdir)
    if config_lib.sweep_hash(found) == config_lib.sweep_hash(config):
        return
    kept = config_lib.without(config, config_lib.NOT_IN_SWEEP_HASH)
    other = config_lib.without(found, config_lib.NOT_IN_SWEEP_HASH)
    changed = [key for key in kept if kept[key] != other.get(key)]
    raise UserError(
        f"--workdir={workdir} belongs to another sweep ({found.name}); it differs in "
        f"{', '.join(changed[:5])}; choose another --workdir, or the config it was made with"
    )


def read(workdir: Path) -> ConfigDict:
    """The config that the workdir's sweep was begun with. Raises UserError where there is none."""
    path = workdir / NAME
    if not path.is_file():
        raise UserError(f"--workdir={workdir} holds no sweep; run `scaling sweep` first")
    return config_lib.from_json(files.read_json(path), path)


def require(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError where the workdir holds no sweep, or another one."""
    read(workdir)
    create_or_check(config, workdir)
