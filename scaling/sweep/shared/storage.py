"""Five operations on small files, on a shared file system or an object store: what claims are made of.

Keys are "folder/file". `create` is exclusive and whole: of several callers one wins, and nobody reads
half of what it wrote.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import Any, Protocol

from scaling.utils.errors import UserError

EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}  # scheme of a workdir: the package that reads it

# What link(2) says where the file system has no hard links (FAT, some FUSE and SMB mounts).
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Storage(Protocol):
    """All operations raise OSError where the storage cannot be reached or written."""

    def create(self, key: str, content: bytes) -> bool:
        """False where the key exists. After a lost answer it may say False to the winner itself."""

    def replace(self, key: str, content: bytes) -> None: ...

    def read(self, key: str) -> bytes | None:
        """None where there is no such key."""

    def list(self, folder: str = "") -> list[str]:
        """The keys of a folder, or of all; empty where there are none."""

    def delete(self, key: str) -> None:
        """No error where there is no such key."""


def is_remote(place: str | Path) -> bool:
    return "://" in str(place)


def storage(place: str | Path) -> Storage:
    """The storage of a local folder, or of a URL such as "s3://bucket/sweep/claims"."""
    return ObjectStorage(str(place)) if is_remote(place) else FolderStorage(Path(place))


class FolderStorage:
    """A folder that all workers mount. Made for NFSv3 and newer, where O_EXCL of old servers, locks and
    clocks are not to be trusted, but link(2) and rename(2) are atomic on the server and a client's own
    change of a folder makes it read that folder anew."""

    def __init__(self, folder: Path):
        self.folder = folder

    def create(self, key: str, content: bytes) -> bool:
        path = self.folder / key
        temporary = self._temporary(path, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            # Exclusive, but not whole at once: a reader of half of it waits for the rest.
            try:
                with open(path, "xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def replace(self, key: str, content: bytes) -> None:
        path = self.folder / key
        temporary = self._temporary(path, content)
        try:
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def read(self, key: str) -> bytes | None:
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def list(self, folder: str = "") -> list[str]:
        try:
            with os.scandir(self.folder / folder) as entries:
                names = [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        if folder:
            return [f"{folder}/{name}" for name in names]
        return [key for name in names for key in self.list(name)]

    def delete(self, key: str) -> None:
        (self.folder / key).unlink(missing_ok=True)

    @staticmethod
    def _temporary(path: Path, content: bytes) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".{uuid.uuid4().hex}"
        try:
            temporary.write_bytes(content)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


class ObjectStorage:
    """A prefix of an object store, through fsspec.

    `create` is the store's own conditional write: s3fs sends If-None-Match: *, gcsfs
    ifGenerationMatch=0. Stores that take this header and overlook it cannot hold claims. The S3 side
    is tested against a local server; the gs:// side is the same code, and was never run on Google's.
    """

    def __init__(self, url: str):
        self._fs = filesystem(url)
        self._root = self._fs._strip_protocol(url).rstrip("/")

    def create(self, key: str, content: bytes) -> bool:
        try:
            call_store(self._fs.pipe_file, self._path(key), content, mode="create")
        except OSError as error:
            if _refused(error):
                return False
            raise
        return True

    def replace(self, key: str, content: bytes) -> None:
        call_store(self._fs.pipe_file, self._path(key), content)

    def read(self, key: str) -> bytes | None:
        try:
            return call_store(self._fs.cat_file, self._path(key))
        except FileNotFoundError:
            return None

    def list(self, folder: str = "") -> list[str]:
        self._fs.invalidate_cache()
        place = f"{self._root}/{folder}" if folder else self._root
        try:
            found = call_store(self._fs.find, place)
        except FileNotFoundError:
            return []
        return [path[len(self._root) + 1 :] for path in found if path.startswith(f"{place}/")]

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            call_store(self._fs.rm_file, self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def filesystem(url: str) -> Any:
    """The fsspec file system of a URL. Raises UserError where its package is not installed."""
    import fsspec

    scheme = url.split("://")[0]
    if scheme not in (*EXTRAS, "gcs", "memory"):
        raise UserError(
            f"--workdir={url}: unknown scheme {scheme}://; use a folder, s3:// or gs://"
        )
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        package = EXTRAS.get(scheme, "gcsfs")
        extra = "s3" if package == "s3fs" else "gcs"
        raise UserError(
            f"--workdir={url} needs the package {package}; pip install 'scaling[{extra}]'"
        ) from error


def _refused(error: OSError) -> bool:
    """Whether a conditional write found the key there, or met another one on its way (S3's 409).

    s3fs turns only Amazon's own answer into FileExistsError; other stores leave out the condition.
    """
    answer = getattr(error.__cause__, "response", None) or {}
    code = answer.get("Error", {}).get("Code")
    refusals = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
    return isinstance(error, FileExistsError) or code in refusals


def call_store(call, *args, **options) -> Any:
    """The answer of a store. What is no OSError yet (no credentials, no connection) becomes one."""
    try:
        return call(*args, **options)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
