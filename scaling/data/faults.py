"""Refuse faulty documents or leave them out, as config.data.errors says, and count them."""

from __future__ import annotations

from scaling.utils.errors import UserError

STRICT, REPLACE, SKIP = "strict", "replace", "skip"


class Faults:
    """The documents of one reading that were left out or repaired, by reason."""

    def __init__(self, errors: str):
        self.errors = errors
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}  # reason -> the first place

    def count(self, reason: str, place: str) -> None:
        """Count a document."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.first.setdefault(reason, place)

    def refuse(self, reason: str, place: str, fix: str) -> None:
        """Count a document to leave out. Raises UserError unless errors are skipped."""
        if self.errors != SKIP:
            raise UserError(f"{place}: {reason}; {fix}, or leave it out: config.data.errors=skip")
        self.count(reason, place)

    def summary(self) -> dict[str, dict]:
        """Return the counts as meta.json holds them."""
        return {
            reason: {"count": count, "first": self.first[reason]}
            for reason, count in self.counts.items()
        }
