"""Read and write the files of claims: generation n is `<name>/<n>.json`, its release `<n>.free`."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from scaling.sweep.shared.storage import storage

log = logging.getLogger("scaling")

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*")
# Any number counts, so that one more than a damaged one is a claim, too; names end at 255 bytes.
FILE = re.compile(r"([1-9][0-9]{0,199})\.(json|free)")


class Generations:
    """Generations below one folder or URL. Methods raise OSError if it cannot be used."""

    def __init__(self, folder: Path | str):
        self.storage = storage(folder)

    def newest(self, name: str) -> tuple[int, bool]:
        """Return (number, whether it is released) of the newest generation, or (0, False)."""
        return max((generation for _, generation in self._list(name)), default=(0, False))

    def newest_of_all(self) -> dict[str, tuple[int, bool]]:
        """Return the newest generation of every name, from one listing."""
        newest: dict[str, tuple[int, bool]] = {}
        for key, generation in self._list(""):
            name = key.partition("/")[0]
            newest[name] = max(newest.get(name, generation), generation)
        return newest

    def create(self, name: str, number: int, content: bytes) -> bool:
        """Create a generation; return False if another worker did. `content` must be unique.

        The read covers a lost answer: clients of NFS and S3 repeat the request, and the repetition
        meets the file that the first request wrote.
        """
        if not FILE.fullmatch(f"{number}.json"):
            raise OSError(f"{name}/ holds a file whose number is too high for a claim; delete it")
        created = self.storage.create(_key(name, number), content)
        return created or self.read(name, number) == content

    def replace(self, name: str, number: int, content: bytes) -> None:
        """Write a new content of a generation."""
        self.storage.replace(_key(name, number), content)

    def read(self, name: str, number: int) -> bytes | None:
        """Return the content; None if it is missing, b"" if unreadable (it then becomes stale)."""
        try:
            return self.storage.read(_key(name, number))
        except (PermissionError, IsADirectoryError):
            return b""

    def release(self, name: str, number: int) -> None:
        """Mark a generation as released."""
        self.storage.create(_key(name, number, "free"), b"")
        self.withdraw(name, number)

    def withdraw(self, name: str, number: int) -> None:
        """Delete a generation."""
        self.storage.delete(_key(name, number))

    def clean(self, name: str, last: int) -> None:
        """Delete generations up to `last`; leave those that cannot be deleted to the next owner."""
        for key, (number, _) in self._list(name):
            if number <= last:
                try:
                    self.storage.delete(key)
                except OSError as error:
                    log.debug("old claim %s stays: %s", key, error)

    def _list(self, name: str) -> list[tuple[str, tuple[int, bool]]]:
        """Return (key, (number, whether it is a release)); ignore files of other names."""
        matches = ((key, FILE.fullmatch(key.rpartition("/")[2])) for key in self.storage.list(name))
        return [(key, (int(m[1]), m[2] == "free")) for key, m in matches if m]


def _key(name: str, number: int, suffix: str = "json") -> str:
    return f"{name}/{number}.{suffix}"
