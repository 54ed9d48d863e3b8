"""Create, replace, read, list and delete small files on a shared file system or object store.

Keys are "folder/file". `create` is exclusive and atomic: one of several callers wins, and no
reader sees a part of the content.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path
from typing import Any, Protocol

from scaling.utils.errors import UserError

EXTRAS = {"s3": "s3fs", "gs": "gcsfs"}  # URL scheme of a workdir -> the package that reads it

# Errors of link(2) on file systems without hard links (FAT, some FUSE and SMB mounts).
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Storage(Protocol):
    """Small files by key. All methods raise OSError if the storage is unreachable or read-only."""

    def create(self, key: str, content: bytes) -> bool:
        """Write a new key; return False if it exists.

        After a lost answer it may return False to the winner itself.
        """

    def replace(self, key: str, content: bytes) -> None:
        """Write a key, whether it exists or not."""

    def read(self, key: str) -> bytes | None:
        """Return the content of a key, or None if it does not exist."""

    def list(self, folder: str = "") -> list[str]:
        """Return the keys of a folder, by default of the whole storage."""

    def delete(self, key: str) -> None:
        """Delete a key; do nothing if it does not exist."""


def is_remote(workdir: str | Path) -> bool:
    """Return whether a workdir is a URL, not a folder."""
    return "://" in str(workdir)


def storage(folder: str | Path) -> Storage:
    """Return the storage of a local folder, or of a URL such as "s3://bucket/sweep/claims"."""
    return ObjectStorage(str(folder)) if is_remote(folder) else FolderStorage(Path(folder))


class FolderStorage:
    """A folder that all workers mount, on NFSv3 or newer or a local disk.

    It does not rely on O_EXCL of old servers, on locks or on clocks. It relies on link(2) and
    rename(2), which are atomic on the server, and on a client that lists a folder anew after it
    changed the folder itself.
    """

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
            # Exclusive, but not atomic: a reader of a part of it waits for the rest.
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
    """A prefix of an object store, accessed through fsspec.

    `create` is the store's own conditional write: s3fs sends If-None-Match: *, gcsfs
    ifGenerationMatch=0. Stores that accept this header but ignore it cannot hold claims. S3 is
    tested against a local server. gs:// runs the same code and was never run on Google's servers.
    """

    def __init__(self, url: str):
        self._fs = filesystem(url)
        self._root = self._fs._strip_protocol(url).rstrip("/")

    def create(self, key: str, content: bytes) -> bool:
        try:
            call_store(self._fs.pipe_file, self._path(key), content, mode="create")
        except OSError as error:
            if _is_conflict(error):
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
        prefix = f"{self._root}/{folder}" if folder else self._root
        try:
            paths = call_store(self._fs.find, prefix)
        except FileNotFoundError:
            return []
        return [path[len(self._root) + 1 :] for path in paths if path.startswith(f"{prefix}/")]

    def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            call_store(self._fs.rm_file, self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"


def filesystem(url: str) -> Any:
    """Return the fsspec file system of a URL. Raises UserError if its package is not installed."""
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


def _is_conflict(error: OSError) -> bool:
    """Return whether a conditional write met an existing key or a concurrent write (S3's 409).

    s3fs turns only Amazon's own answer into FileExistsError; other stores omit the condition.
    """
    answer = getattr(error.__cause__, "response", None) or {}
    code = answer.get("Error", {}).get("Code")
    refusals = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
    return isinstance(error, FileExistsError) or code in refusals


def call_store(call, *args, **options) -> Any:
    """Call a store; convert every exception (no credentials, no connection) to an OSError."""
    try:
        return call(*args, **options)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
