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

from scaling.sweep.shared.checkpoints import RemoteCheckpoints, local_steps, pushed_steps
from scaling.sweep.shared.storage import ObjectStorage, call_store, filesystem
from scaling.sweep.shared.workdir import Workdir
from scaling.utils import files
from scaling.utils.errors import UserError

ENDS = ("result.json", "failure.json")
APART = ("runs", "claims", "ended", "halving", "workdir.json")  # no part of the table
HERE_ONLY = ("logs", "slurm")  # a launcher's own
ONCE = ("sweep.json", "schedule.json", "forecast.json")  # whoever writes them first


class Mirror(Workdir):
    """A workdir on an object store and its scratch folder, below $SCALING_CACHE or ~/.cache/scaling.

    The scratch folder belongs to one life of the workdir: where that is deleted on the store and begun
    anew, so is the scratch. Its workers on one machine share it. Methods raise OSError where the store
    does not answer, after the retries of its client; all may be called again.
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
        life = hashlib.sha256(url.encode() + identity).hexdigest()[:16]
        super().__init__(cache / "workdirs" / life)
        self.name, self.shared, self.claims = url, url, f"{url}/claims"
        self._checkpoints = RemoteCheckpoints(self._fs, self._store, url, self.path)
        self._pushed: dict[Path, tuple[int, int]] = {}  # file here: its version as uploaded
        self._steps: dict[Path, set[int]] = {}  # run: its checkpoints both here and there
        self._seen: dict[Path, set[int]] = {}  # run: its checkpoints there, since `pull_results`
        self.path.mkdir(parents=True, exist_ok=True)
        # The table as it is there, so that what this process pushes is what it changed.
        for entry in call_store(self._fs.ls, self._root, detail=True):
            top = entry["name"].rstrip("/").rpartition("/")[2]
            if top not in (*APART, *HERE_ONLY):
                self._fetch([top] if entry["type"] == "file" else self._store.list(top))

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
            if not self._store.create(key, end.read_bytes()):
                self._fetch([key])  # theirs was first
        self._mark(end.name, run_dir)
        if end.name == "result.json":
            self._store.delete(f"ended/failure.json/{run_dir.name}")
            self._store.delete(f"{self._key(run_dir)}/failure.json")
        self._remember(end)

    def _mark(self, end: str, run_dir: Path) -> None:
        self._store.replace(f"ended/{end}/{run_dir.name}", b"")

    def pull(self, run_dir: Path, step: int | None = None) -> None:
        name = self._key(run_dir)
        there = set(self._store.list(name))
        here, pushed = local_steps(run_dir), pushed_steps(there)
        newest_here = max(here, default=-1)
        if step is not None:
            best = max((s for s in here if s <= step), default=-1)
            wanted = [s for s in pushed if best < s <= step]
        elif f"{name}/result.json" in there:
            wanted = []  # there is nothing to go on with
            self._mark("result.json", run_dir)  # whoever wrote it may have been killed before that
        else:
            wanted = [s for s in pushed if s > newest_here]
        any(self._checkpoints.pull(name, s, there) for s in sorted(wanted, reverse=True))
        plain = [key for key in there if key.count("/") == 2 and not key.endswith("failure.json")]
        if max(pushed, default=-1) <= newest_here:  # the files here go as far as those there
            plain = [key for key in plain if not (self.path / key).exists()]
        self._fetch(plain)

    def has(self, run_dir: Path, step: int) -> bool:
        if super().has(run_dir, step):
            return True
        if run_dir not in self._seen:
            self._seen[run_dir] = pushed_steps(self._store.list(f"{self._key(run_dir)}/pushed"))
        return step in self._seen[run_dir]

    def push_ended(self) -> None:
        there = {key.rpartition("/")[2] for key in self._store.list("ended/result.json")}
        for result in self.path.glob("runs/*/result.json"):
            if result.parent.name not in there:
                self.push(result.parent)

    def push_table(self, *names: str) -> None:
        tops = [self.path / name for name in names] or sorted(self.path.iterdir())
        for top in tops:
            if top.name in (*APART, *HERE_ONLY):
                continue
            if top.name not in ONCE:
                found = [top] if top.is_file() else sorted(top.rglob("*"))
                self._upload(p for p in found if p.is_file() and not p.name.startswith("."))
            elif top.is_file() and self._changed(top):
                if not self._store.create(top.name, top.read_bytes()):
                    self._fetch([top.name])  # theirs holds
                self._remember(top)

    def pull_results(self, running: Iterable[str] = (), curves: bool = False) -> None:
        self._seen = {}
        keys = []
        for key in self._store.list("ended"):
            _, end, run = key.split("/")
            folder = self.path / "runs" / run
            ended = (folder / "result.json").is_file()
            rows = (folder / "metrics.jsonl").is_file()
            if curves and not (folder / "config.json").is_file():
                keys.append(f"runs/{run}/config.json")
            unfinished = end == "result.json" and not ended  # rows here, if any, are then not all
            if unfinished if rows else curves:
                keys.append(f"runs/{run}/metrics.jsonl")
            if not ended:  # a result never changes; a failure may, or may have been mended
                keys.append(f"runs/{run}/{end}")
        self._fetch(keys)
        # A worker on this machine may be writing them: what is here is then longer.
        self._fetch([f"runs/{run}/metrics.jsonl" for run in running], grown=True)

    def _key(self, run_dir: Path) -> str:
        return run_dir.relative_to(self.path).as_posix()

    def _upload(self, paths: Iterable[Path]) -> None:
        """Each file as it is now, where it changed since this process uploaded it."""
        for path in paths:
            if self._changed(path):
                version = _version(path)  # taken first: rows appended meanwhile go up next time
                self._store.replace(self._key(path), path.read_bytes())
                self._pushed[path] = version

    def _fetch(self, keys: list[str], grown: bool = False) -> None:
        """Whole files into the scratch folder, with `grown` only those longer than the ones here.

        One that is gone meanwhile is passed over.
        """
        if not keys:
            return
        found = call_store(self._fs.cat, [f"{self._root}/{key}" for key in keys], on_error="return")
        for key in keys:
            content = found.get(f"{self._root}/{key}")
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
