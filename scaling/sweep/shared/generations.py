"""The files behind claims: `<name>/<n>.json` is generation n of a job's claim, `<n>.free` its release."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from scaling.sweep.shared.storage import storage

log = logging.getLogger("scaling")

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+=-]*")
FILE = re.compile(r"([1-9][0-9]{0,17})\.(json|free)")


class Generations:
    """Generations below one folder or URL. Methods raise OSError where it cannot be used."""

    def __init__(self, place: Path | str):
        self.storage = storage(place)

    def newest(self, name: str) -> tuple[int, bool]:
        """(number, whether it is released) of the newest generation; (0, False) where none is."""
        return max((found for _, found in self._parsed(name)), default=(0, False))

    def newest_of_all(self) -> dict[str, tuple[int, bool]]:
        """The same for every name that has a generation, from one listing."""
        newest: dict[str, tuple[int, bool]] = {}
        for key, found in self._parsed(""):
            name = key.partition("/")[0]
            newest[name] = max(newest.get(name, found), found)
        return newest

    def create(self, name: str, number: int, content: bytes) -> bool:
        """False where somebody else created it. `content` must be the caller's alone.

        The second look is for an answer that was lost on its way: clients of NFS and S3 repeat the
        request, which then finds its own work.
        """
        created = self.storage.create(_key(name, number), content)
        return created or self.read(name, number) == content

    def replace(self, name: str, number: int, content: bytes) -> None:
        self.storage.replace(_key(name, number), content)

    def read(self, name: str, number: int) -> bytes | None:
        """None where it is missing; b"" where it cannot be read, so that it goes stale in time."""
        try:
            return self.storage.read(_key(name, number))
        except (PermissionError, IsADirectoryError):
            return b""

    def release(self, name: str, number: int) -> None:
        self.storage.create(_key(name, number, "free"), b"")
        self.withdraw(name, number)

    def withdraw(self, name: str, number: int) -> None:
        self.storage.delete(_key(name, number))

    def clean(self, name: str, last: int) -> None:
        """Delete generations up to `last`; what resists is left to the next owner."""
        for key, (number, _) in self._parsed(name):
            if number <= last:
                try:
                    self.storage.delete(key)
                except OSError as error:
                    log.debug("old claim %s stays: %s", key, error)

    def _parsed(self, name: str) -> list[tuple[str, tuple[int, bool]]]:
        """(key, (number, whether it is a release)); files of other names are passed over."""
        matched = ((key, FILE.fullmatch(key.rpartition("/")[2])) for key in self.storage.list(name))
        return [(key, (int(m[1]), m[2] == "free")) for key, m in matched if m]


def _key(name: str, number: int, kind: str = "json") -> str:
    return f"{name}/{number}.{kind}"
