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
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from scaling import files
from scaling.errors import UserError
from scaling.sweep.remote_checkpoints import RemoteCheckpoints, local_steps, pushed_steps
from scaling.sweep.storage import ObjectStorage, asked, filesystem, is_remote

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
        self._checkpoints = RemoteCheckpoints(self._fs, self._store, url, self.path)
        self._url = url
        self._pushed: dict[Path, tuple[int, int]] = {}  # file here: its version as uploaded
        self._steps: dict[Path, set[int]] = {}  # run: its checkpoints both here and there
        self.path.mkdir(parents=True, exist_ok=True)
        top = asked(self._fs.find, self._root, maxdepth=1)
        self._fetch([path[len(self._root) + 1 :] for path in top])

    def push(self, run_dir: Path) -> None:
        name, here = self._key(run_dir), local_steps(run_dir)
        if run_dir not in self._steps:
            self._steps[run_dir] = pushed_steps(self._store.list(f"{name}/pushed")) & here
        there = self._steps[run_dir]
        end = next((run_dir / end for end in ENDS if (run_dir / end).is_file()), None)
        if here <= there and not (end and self._changed(end)):
            return
        # Metrics first: whoever finds a checkpoint finds the rows up to it.
        plain = [p for p in run_dir.iterdir() if p.is_file() and p.name not in ENDS]
        self._upload([p for p in (*plain, *run_dir.glob("tensorboard/*")) if p.name[0] != "."])
        for step in sorted(here - there):
            try:
                self._checkpoints.push(name, step)
            except FileNotFoundError:
                continue  # replaced by newer ones while we read
            there.add(step)
        for step in there - here:  # no longer kept here, so not there
            self._checkpoints.drop(name, step)
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
        steps = sorted(pushed_steps(there) - here, reverse=True)
        ended = f"{name}/result.json" in there  # then there is nothing to go on with
        newer = [s for s in steps if s > max(here, default=-1) and not ended]
        fetched = next((s for s in newer if self._checkpoints.pull(name, s, there)), None)
        if step in steps and step != fetched:
            self._checkpoints.pull(name, step, there)
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

    def _upload(self, paths: Iterable[Path]) -> None:
        """Each file as it is now, where it changed since this process uploaded it."""
        for path in paths:
            if self._changed(path):
                version = _version(path)  # taken first: rows appended meanwhile go up next time
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


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
