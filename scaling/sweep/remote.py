"""A sweep's workdir on an object store (s3://, gs://), worked on in a scratch folder of this machine.

Runs are trained in the scratch folder as in any workdir; `push` uploads a run, `pull` fetches it where
another machine began it, `push_table` and `pull_results` do the same for what stands above the runs. On
the store lies the same tree, with two additions:

- `runs/<run_id>/pushed/<step>.json` is written after all files of that checkpoint and lists them: a
  checkpoint without it, or with files missing, is passed over;
- `ended/result.json/<run_id>` (or `ended/failure.json/<run_id>`) is an empty object for each run that
  ended, so that ten thousand results are found by ten listings.

Nothing that a run needs is overwritten by an older state: checkpoints carry their step, a result is
created once. Runs over several hosts need a shared file system, since each host writes its own shards.
S3 is tested against a local server; gs:// is the same code through gcsfs, never run on Google's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path

from scaling import files
from scaling.errors import UserError
from scaling.sweep.storage import ObjectStorage, asked, filesystem, is_remote

log = logging.getLogger("scaling")

ENDS = ("result.json", "failure.json")


class Workdir:
    """A workdir that is a folder: nothing to push or to pull."""

    def __init__(self, path: Path):
        self.path = path
        self.claims: Path | str = path / "claims"  # where `Claims` are kept

    def push(self, run_dir: Path) -> None:
        """Upload what is new of a run, where a new checkpoint is finished or the run has ended."""

    def pull(self, run_dir: Path, step: int | None = None) -> None:
        """Fetch a run: its result and files, and its newest checkpoint, if newer than those here.

        With `step` also that checkpoint, where it is there: for a run forked from it.
        """

    def push_table(self) -> None:
        """Upload what is new outside the runs: sweep.json, tables, curves."""

    def pull_results(self, running: Iterable[str] = ()) -> None:
        """Fetch all results and failures, and the metrics so far of the runs named in `running`."""


def open_workdir(workdir: Path | str, *, create: bool = True) -> Workdir:
    """The workdir at a path or URL.

    Raises UserError where a URL cannot be read or written, or, without `create`, holds no workdir.
    """
    if not is_remote(workdir):
        return Workdir(Path(workdir))
    url = str(workdir).rstrip("/")
    try:
        return Mirror(url, create)
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--workdir={url} cannot be used ({reason}); check the bucket, the credentials and the network"
        ) from error


class Mirror(Workdir):
    """A workdir on an object store and its scratch folder, below $SCALING_CACHE or ~/.cache/scaling.

    The scratch folder belongs to one life of the workdir: where that is deleted on the store and begun
    anew, so is the scratch. Its workers on one machine share it. Methods raise OSError where the store
    does not answer, after the retries of its client; all may be called again.
    """

    def __init__(self, url: str, create: bool):
        self._fs = filesystem(url)
        self._root = self._fs._strip_protocol(url).rstrip("/")
        self._store = ObjectStorage(url)
        identity = self._store.read("workdir.json")
        if identity is None:
            if not create:
                raise UserError(f"--workdir={url} holds no sweep; run `scaling sweep` first")
            self._store.create("workdir.json", json.dumps({"id": uuid.uuid4().hex}).encode())
            identity = self._store.read("workdir.json") or b""
        cache = Path(os.environ.get("SCALING_CACHE") or "~/.cache/scaling").expanduser()
        life = hashlib.sha256(url.encode() + identity).hexdigest()[:16]
        super().__init__(cache / "workdirs" / life)
        self.claims = f"{url}/claims"
        self._url = url
        self._pushed: dict[Path, tuple[int, int]] = {}  # file here: its version as uploaded
        self._steps: dict[Path, set[int]] = {}  # run: its checkpoints both here and there
        self.path.mkdir(parents=True, exist_ok=True)
        top = asked(self._fs.find, self._root, maxdepth=1)
        self._fetch([path[len(self._root) + 1 :] for path in top])

    def push(self, run_dir: Path) -> None:
        name, here = self._key(run_dir), local_steps(run_dir)
        if run_dir not in self._steps:
            self._steps[run_dir] = _pushed(set(self._store.list(f"{name}/pushed")), name) & here
        there = self._steps[run_dir]
        end = next((run_dir / end for end in ENDS if (run_dir / end).is_file()), None)
        if here <= there and not (end and self._changed(end)):
            return
        # Metrics first: whoever finds a checkpoint finds the rows up to it.
        plain = [p for p in run_dir.iterdir() if p.is_file() and p.name not in ENDS]
        self._upload([p for p in (*plain, *run_dir.glob("tensorboard/*")) if p.name[0] != "."])
        for step in sorted(here - there):
            try:
                self._push_checkpoint(run_dir, step)
            except FileNotFoundError:
                continue  # replaced by newer ones while we read
            there.add(step)
        for step in there - here:  # no longer kept here, so not there
            self._drop_checkpoint(name, step)
        there &= here
        if end:
            self._push_end(run_dir, end)

    def _push_end(self, run_dir: Path, end: Path) -> None:
        """A failure may be followed by a result, a result by nothing."""
        key = self._key(end)
        if end.name == "failure.json":
            self._store.replace(key, end.read_bytes())
        else:
            self._store.create(key, end.read_bytes())
            self._store.delete(f"ended/failure.json/{run_dir.name}")
            self._store.delete(f"{self._key(run_dir)}/failure.json")
        self._store.replace(f"ended/{end.name}/{run_dir.name}", b"")
        self._remember(end)

    def pull(self, run_dir: Path, step: int | None = None) -> None:
        name = self._key(run_dir)
        there = set(self._store.list(name))
        here = local_steps(run_dir)
        steps = sorted(_pushed(there, name) - here, reverse=True)
        newer = (s for s in steps if s > max(here, default=-1))
        fetched = next((s for s in newer if self._pull_checkpoint(run_dir, s, there)), None)
        if step in steps and step != fetched:
            self._pull_checkpoint(run_dir, step, there)
        plain = [key for key in there if key.count("/") == 2 and not key.endswith("failure.json")]
        if fetched is None:  # the files here go as far as those there, or further
            plain = [key for key in plain if not (self.path / key).exists()]
        self._fetch(plain)

    def push_table(self) -> None:
        sweep = self.path / "sweep.json"
        if sweep.is_file() and self._changed(sweep):
            content = sweep.read_bytes()
            created = self._store.create("sweep.json", content)
            if not created and self._store.read("sweep.json") != content:
                raise UserError(
                    f"--workdir={self._url} was begun with another config meanwhile; "
                    "choose another --workdir, or the config it was made with"
                )
            self._remember(sweep)
        skipped = ("runs", "claims", "sweep.json", "workdir.json")
        self._upload(
            path
            for top in sorted(self.path.iterdir())
            if top.name not in skipped
            for path in ([top] if top.is_file() else sorted(top.rglob("*")))
            if path.is_file() and not path.name.startswith(".")
        )

    def pull_results(self, running: Iterable[str] = ()) -> None:
        keys = [f"runs/{run}/metrics.jsonl" for run in running]
        for key in self._store.list("ended"):
            _, end, run = key.split("/")
            # a result never changes; a failure may, or may have been mended
            if end == "failure.json" or not (self.path / "runs" / run / end).is_file():
                keys.append(f"runs/{run}/{end}")
        self._fetch(keys)

    def _key(self, run_dir: Path) -> str:
        return run_dir.relative_to(self.path).as_posix()

    def _push_checkpoint(self, run_dir: Path, step: int) -> None:
        """Its files, then the marker that lists them with their sizes."""
        folder = run_dir / "checkpoints" / str(step)
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        keys = [self._key(path) for path in paths]
        asked(self._fs.put, [str(p) for p in paths], [f"{self._root}/{key}" for key in keys])
        sizes = {
            self._key(p).removeprefix(self._key(folder) + "/"): p.stat().st_size for p in paths
        }
        self._store.replace(_marker(self._key(run_dir), step), json.dumps(sizes).encode())

    def _drop_checkpoint(self, name: str, step: int) -> None:
        self._store.delete(_marker(name, step))
        for key in self._store.list(f"{name}/checkpoints/{step}"):
            self._store.delete(key)

    def _pull_checkpoint(self, run_dir: Path, step: int, there: set[str]) -> bool:
        """False where it is not all there, with a warning."""
        name = self._key(run_dir)
        folder = f"{name}/checkpoints/{step}"
        run_dir.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".pull-", dir=run_dir))
        try:
            sizes = json.loads(self._store.read(_marker(name, step)) or b"")
            if missing := [file for file in sizes if f"{folder}/{file}" not in there]:
                raise ValueError(f"{missing[0]} is missing")
            for file in sizes:
                (scratch / file).parent.mkdir(parents=True, exist_ok=True)
            remote = [f"{self._root}/{folder}/{file}" for file in sizes]
            asked(self._fs.get, remote, [str(scratch / file) for file in sizes])
            for file, size in sizes.items():
                if (scratch / file).stat().st_size != size:
                    raise ValueError(f"{file} has another size than what was pushed")
            target = run_dir / "checkpoints" / str(step)
            target.parent.mkdir(exist_ok=True)
            scratch.rename(target)
            target.chmod(0o755)
            return True
        except (ValueError, FileNotFoundError) as error:
            log.warning(
                "warning: checkpoint %s of %s is damaged (%s); trying the one before",
                step, f"{self._url}/{name}", error,
            )  # fmt: skip
            return False
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _upload(self, paths: Iterable[Path]) -> None:
        """Each file as it is now, where it changed since this process uploaded it."""
        for path in paths:
            if self._changed(path):
                version = _version(
                    path
                )  # before it is read: rows appended meanwhile go up next time
                self._store.replace(self._key(path), path.read_bytes())
                self._pushed[path] = version

    def _fetch(self, keys: list[str]) -> None:
        """Whole files into the scratch folder; one that is gone meanwhile is passed over."""
        if not keys:
            return
        found = asked(self._fs.cat, [f"{self._root}/{key}" for key in keys], on_error="return")
        for key in keys:
            content = found.get(f"{self._root}/{key}")
            if isinstance(content, bytes):
                files.write_bytes(self.path / key, content)
            elif isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise OSError(f"{self._url}/{key}: {content}") from content

    def _changed(self, path: Path) -> bool:
        return self._pushed.get(path) != _version(path)

    def _remember(self, path: Path) -> None:
        self._pushed[path] = _version(path)


def local_steps(run_dir: Path) -> set[int]:
    """Finished checkpoints here; orbax gives a folder its number when all of it is written."""
    folder = run_dir / "checkpoints"
    return {int(p.name) for p in folder.glob("*") if p.name.isdigit() and p.is_dir()}


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _marker(name: str, step: int) -> str:
    return f"{name}/pushed/{step}.json"


def _pushed(keys: set[str], name: str) -> set[int]:
    """Steps of the run whose markers are among `keys`."""
    stems = (Path(key).stem for key in keys if key.startswith(f"{name}/pushed/"))
    return {int(stem) for stem in stems if stem.isdigit()}
