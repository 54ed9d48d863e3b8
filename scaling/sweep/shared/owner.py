"""Write and parse the record of a claim: its owner's process and the state of the claim."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from scaling.utils import files, process


@dataclass(frozen=True)
class Record:
    """The content of a claim's file. `token` is unique per claim, `beat` counts its renewals."""

    token: str
    launch: str
    host: str
    machine: str  # boot and process namespace, within which process numbers are unique
    pid: int
    started: int  # start of the process in clock ticks since boot; 0 if unknown
    attempts: int
    state: str  # "held", or "taking": created, but its stale predecessor not yet checked again
    beat: int
    time: float  # clock of the owner's machine, seconds; for display, never compared

    def to_bytes(self) -> bytes:
        """Return the record as one line of JSON."""
        return (json.dumps(dataclasses.asdict(self)) + "\n").encode()

    @property
    def dead(self) -> bool:
        """True only if the owner ran on this machine and its process is gone."""
        return process.Process(self.host, self.machine, self.pid, self.started).dead


def parse(content: bytes) -> Record | None:
    """Parse a claim's file, ignoring unknown fields; return None if it is torn or not a claim."""
    try:
        values = files.parse_object(content)
        record = Record(**{f.name: values[f.name] for f in dataclasses.fields(Record)})
    except (ValueError, KeyError):
        return None
    texts = (record.token, record.launch, record.host, record.machine, record.state)
    counts = (record.pid, record.started, record.attempts, record.beat)
    if not all(isinstance(t, str) for t in texts) or not files.is_number(record.time):
        return None
    return record if all(type(c) is int and 0 <= c < 2**63 for c in counts) else None


def this_process(token: str, launch: str, attempts: int, state: str) -> Record:
    """Return the record of a claim by this process."""
    mine = dataclasses.asdict(process.this())
    return Record(token, launch, **mine, attempts=attempts, state=state, beat=0, time=0.0)
