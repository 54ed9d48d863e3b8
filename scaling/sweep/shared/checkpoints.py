"""Move checkpoints between a machine and an object store; an incomplete checkpoint is skipped.

`<run>/pushed/<step>.json` is written after all files of `<run>/checkpoints/<step>/` and holds
their sizes.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scaling.sweep.shared.storage import ObjectStorage, call_store
from scaling.utils import files

log = logging.getLogger("scaling")


class RemoteCheckpoints:
    """Move checkpoints between `url` and the folder `path`, which hold the same tree.

    A run is named by its path below both, "runs/<run_id>". Methods raise OSError if the store is
    unreachable.
    """

    def __init__(self, fs: Any, store: ObjectStorage, url: str, path: Path):
        self._fs, self._store, self._url, self._path = fs, store, url, path

    def push(self, run: str, step: int) -> None:
        """Upload a checkpoint. Raises FileNotFoundError if it is deleted here meanwhile."""
        folder = self._path / run / "checkpoints" / str(step)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        names = [path.relative_to(folder).as_posix() for path in paths]
        sizes = {name: path.stat().st_size for name, path in zip(names, paths, strict=True)}
        call_store(self._fs.put, [str(path) for path in paths], self._urls(run, step, names))
        self._store.replace(_marker(run, step), json.dumps(sizes).encode())

    def drop(self, run: str, step: int) -> None:
        """Delete a checkpoint on the store, its marker first."""
        self._store.delete(_marker(run, step))
        for key in self._store.list(f"{run}/checkpoints/{step}"):
            self._store.delete(key)

    def pull(self, run: str, step: int, there: set[str]) -> bool:
        """Download a checkpoint; return False with a warning if it is incomplete.

        `there` holds the keys of the run on the store.
        """
        run_dir = self._path / run
        run_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".pull-", dir=run_dir))
        try:
            sizes = files.parse_object(self._store.read(_marker(run, step)) or b"")
            for name in sizes:
                if ".." in Path(name).parts or Path(name).is_absolute():
                    raise ValueError(f"{name} is no file of a checkpoint")
                if f"{run}/checkpoints/{step}/{name}" not in there:
                    raise ValueError(f"{name} is missing")
                (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            urls = self._urls(run, step, sizes)
            call_store(self._fs.get, urls, [str(scratch / name) for name in sizes])
            for name, size in sizes.items():
                if (scratch / name).stat().st_size != size:
                    raise ValueError(f"{name} differs in size from the uploaded file")
            target = run_dir / "checkpoints" / str(step)
            target.parent.mkdir(exist_ok=True)
            scratch.chmod(0o755)
            scratch.rename(target)
            return True
        except (ValueError, FileNotFoundError) as error:
            log.warning(
                "warning: checkpoint %s of %s/%s is damaged (%s); trying the previous one",
                *(step, self._url, run, error),
            )
            return False
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _urls(self, run: str, step: int, names: Iterable[str]) -> list[str]:
        return [f"{self._url}/{run}/checkpoints/{step}/{name}" for name in names]


def local_steps(run_dir: Path) -> set[int]:
    """Return the steps of the finished checkpoints of a local run folder.

    Orbax gives a folder its number once the whole checkpoint is written.
    """
    folder = run_dir / "checkpoints"
    return {int(p.name) for p in folder.glob("*") if p.name.isdigit() and p.is_dir()}


def pushed_steps(keys: Iterable[str]) -> set[int]:
    """Return the steps of a run whose markers are among the keys of that run."""
    paths = [Path(key) for key in keys]
    return {int(p.stem) for p in paths if p.parent.name == "pushed" and p.stem.isdigit()}


def _marker(run: str, step: int) -> str:
    return f"{run}/pushed/{step}.json"
