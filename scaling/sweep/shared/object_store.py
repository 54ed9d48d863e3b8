"""Mirror a sweep's workdir on an object store (s3://, gs://) in a local scratch folder.

Runs are trained in the scratch folder as in any workdir. `push` uploads a run, and `pull`
downloads one that another machine began. `push_table` and `pull_results` do the same for the files
above the runs. The store holds the same tree, with two additions:

- `runs/<run_id>/pushed/<step>.json` is written after all files of that checkpoint and lists them.
  A checkpoint without it, or with a missing file, is skipped.
- `ended/result.json/<run_id>` (or `ended/failure.json/<run_id>`) is an empty object per ended run,
  so that ten listings find ten thousand results.

An older state never overwrites what a run needs: checkpoints carry their step, and a result is
created once. Runs over several hosts need a shared file system, since each host writes its own
shards. S3 is tested against a local server. gs:// runs the same code through gcsfs, and was never
run on Google's servers.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from scaling.sweep.shared.checkpoints import RemoteCheckpoints, local_steps, pushed_steps
from scaling.sweep.shared.storage import ObjectStorage, call_store, filesystem
from scaling.sweep.shared.workdir import Workdir
from scaling.utils import files
from scaling.utils.errors import UserError

ENDS = ("result.json", "failure.json")
NOT_IN_TABLE = ("runs", "claims", "ended", "halving", "workdir.json")
LOCAL_ONLY = ("logs", "slurm")  # files of a launcher on this machine
WRITTEN_ONCE = ("sweep.json", "schedule.json", "forecast.json")  # the first writer wins


class Mirror(Workdir):
    """A workdir on an object store, with a scratch folder in $SCALING_CACHE or ~/.cache/scaling.

    The scratch folder belongs to one creation of the workdir: a workdir that is deleted on the
    store and created again gets a new scratch folder. All workers on a machine share it. Methods
    raise OSError if the store is unreachable after the retries of its client; all may be repeated.
    """

    poll_seconds = 3.0

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
        cache = Path(os.environ.get("SCALING_CACHE") or "~/.cache/scaling").expanduser().absolute()
        key = hashlib.sha256(url.encode() + identity).hexdigest()[:16]
        super().__init__(cache / "workdirs" / key)
        self.name, self.shared, self.claims = url, url, f"{url}/claims"
        self._checkpoints = RemoteCheckpoints(self._fs, self._store, url, self.path)
        self._pushed: dict[Path, tuple[int, int]] = {}  # local file -> its version as uploaded
        self._steps: dict[Path, set[int]] = {}  # run -> its checkpoints both here and on the store
        self._seen: dict[Path, set[int]] = {}  # run -> those on the store, since `pull_results`
        self.path.mkdir(parents=True, exist_ok=True)
        # Start from the store's table, so that this process uploads only its own changes.
        for entry in call_store(self._fs.ls, self._root, detail=True):
            top = entry["name"].rstrip("/").rpartition("/")[2]
            if top not in (*NOT_IN_TABLE, *LOCAL_ONLY):
                self._fetch([top] if entry["type"] == "file" else self._store.list(top))

    def push(self, run_dir: Path) -> None:
        """Upload the new files of a run if it has a new checkpoint or has ended."""
        name, local = self._key(run_dir), local_steps(run_dir)
        if run_dir not in self._steps:
            self._steps[run_dir] = pushed_steps(self._store.list(f"{name}/pushed")) & local
        remote = self._steps[run_dir]
        end = next((run_dir / end for end in ENDS if (run_dir / end).is_file()), None)
        if local <= remote and not (end and self._changed(end)):
            return
        # Metrics first, so that every checkpoint on the store has its rows there.
        plain = [p for p in run_dir.iterdir() if p.is_file() and p.name not in ENDS]
        self._upload([p for p in (*plain, *run_dir.glob("tensorboard/*")) if p.name[0] != "."])
        for step in sorted(local - remote):
            try:
                self._checkpoints.push(name, step)
            except FileNotFoundError:
                continue  # deleted meanwhile in favour of a newer one
            remote.add(step)
        for step in remote - local:  # deleted here, so delete it on the store
            self._checkpoints.drop(name, step)
        remote &= local
        if end:
            self._push_end(run_dir, end)

    def _push_end(self, run_dir: Path, end: Path) -> None:
        """Upload a result, which is final, or a failure, which a result may replace."""
        key = self._key(end)
        if end.name == "failure.json":
            self._store.replace(key, end.read_bytes())
        else:
            if not self._store.create(key, end.read_bytes()):
                self._fetch([key])  # another machine was first
        self._mark(end.name, run_dir)
        if end.name == "result.json":
            self._store.delete(f"ended/failure.json/{run_dir.name}")
            self._store.delete(f"{self._key(run_dir)}/failure.json")
        self._remember(end)

    def _mark(self, end: str, run_dir: Path) -> None:
        self._store.replace(f"ended/{end}/{run_dir.name}", b"")

    def pull(self, run_dir: Path, step: int | None = None) -> None:
        """Download a run: its files, its result, and its newest checkpoint if that is new here."""
        name = self._key(run_dir)
        keys = set(self._store.list(name))
        local, pushed = local_steps(run_dir), pushed_steps(keys)
        newest_local = max(local, default=-1)
        if step is not None:
            best = max((s for s in local if s <= step), default=-1)
            steps = [s for s in pushed if best < s <= step]
        elif f"{name}/result.json" in keys:
            steps = []  # it has ended, so no worker resumes it
            self._mark("result.json", run_dir)  # its writer may have been killed before the marker
        else:
            steps = [s for s in pushed if s > newest_local]
        any(self._checkpoints.pull(name, s, keys) for s in sorted(steps, reverse=True))
        plain = [key for key in keys if key.count("/") == 2 and not key.endswith("failure.json")]
        if max(pushed, default=-1) <= newest_local:  # the local files are at least as far
            plain = [key for key in plain if not (self.path / key).exists()]
        self._fetch(plain)

    def has(self, run_dir: Path, step: int) -> bool:
        """Return whether the checkpoint is finished, here or on the store."""
        if super().has(run_dir, step):
            return True
        if run_dir not in self._seen:
            self._seen[run_dir] = pushed_steps(self._store.list(f"{self._key(run_dir)}/pushed"))
        return step in self._seen[run_dir]

    def push_ended(self) -> None:
        """Upload the results that a killed worker left here."""
        ended = {key.rpartition("/")[2] for key in self._store.list("ended/result.json")}
        for result in self.path.glob("runs/*/result.json"):
            if result.parent.name not in ended:
                self.push(result.parent)

    def push_table(self, *names: str) -> None:
        """Upload new files outside the runs, or only those named; fetch those that are final."""
        tops = [self.path / name for name in names] or sorted(self.path.iterdir())
        for top in tops:
            if top.name in (*NOT_IN_TABLE, *LOCAL_ONLY):
                continue
            if top.name not in WRITTEN_ONCE:
                paths = [top] if top.is_file() else sorted(top.rglob("*"))
                self._upload(p for p in paths if p.is_file() and not p.name.startswith("."))
            elif top.is_file() and self._changed(top):
                if not self._store.create(top.name, top.read_bytes()):
                    self._fetch([top.name])  # another machine was first
                self._remember(top)

    def pull_results(self, running: Iterable[str] = (), curves: bool = False) -> None:
        """Download results, failures and the metrics of `running`; with `curves`, all metrics."""
        self._seen = {}
        keys = []
        for key in self._store.list("ended"):
            _, end, run = key.split("/")
            folder = self.path / "runs" / run
            ended = (folder / "result.json").is_file()
            rows = (folder / "metrics.jsonl").is_file()
            if curves and not (folder / "config.json").is_file():
                keys.append(f"runs/{run}/config.json")
            incomplete = end == "result.json" and not ended  # rows here, if any, are not all
            if incomplete if rows else curves:
                keys.append(f"runs/{run}/metrics.jsonl")
            if not ended:  # a result never changes; a failure may change, or give way to a result
                keys.append(f"runs/{run}/{end}")
        self._fetch(keys)
        # A worker on this machine may be writing them; the local file is then longer.
        self._fetch([f"runs/{run}/metrics.jsonl" for run in running], grown=True)

    def _key(self, run_dir: Path) -> str:
        return run_dir.relative_to(self.path).as_posix()

    def _upload(self, paths: Iterable[Path]) -> None:
        """Upload each file that changed since this process last uploaded it."""
        for path in paths:
            if self._changed(path):
                version = _version(
                    path
                )  # taken first: the next call uploads rows appended meanwhile
                self._store.replace(self._key(path), path.read_bytes())
                self._pushed[path] = version

    def _fetch(self, keys: list[str], grown: bool = False) -> None:
        """Download whole files; with `grown` only those longer than the local ones.

        Files deleted meanwhile are skipped.
        """
        if not keys:
            return
        paths = [f"{self._root}/{key}" for key in keys]
        contents = call_store(self._fs.cat, paths, on_error="return")
        for key in keys:
            content = contents.get(f"{self._root}/{key}")
            path = self.path / key
            if isinstance(content, bytes):
                if not (grown and path.is_file() and path.stat().st_size >= len(content)):
                    files.write_bytes(path, content)
                    self._remember(path)
            elif isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
                raise OSError(f"{self.name}/{key}: {content}") from content

    def _changed(self, path: Path) -> bool:
        return self._pushed.get(path) != _version(path)

    def _remember(self, path: Path) -> None:
        self._pushed[path] = _version(path)


def _version(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
