"""Shared-filesystem claims: at most one worker trains a run, without a server or file locks.

A claim of a job is a generation, the file `<name>/<n>.json`. A worker creates generation n + 1
exclusively if generation n is released (`<n>.free` exists beside it) or stale. The newest
generation holds the job. An owner that sees a newer generation has lost the job. A claim is stale

- at once, if the owner ran on the observer's machine and its process is gone;
- otherwise, if the observer itself saw no renewal for `stale_after` seconds. Clocks of different
  machines are never compared.

Why a suspended owner and its successor never both hold a job: the owner trusts a claim for
`stale_after` seconds from the start of its last confirmed renewal, and no successor can appear
before that. Later the owner must first renew, then look for a newer generation. A successor first
creates its generation, then checks whether the old one was renewed, and withdraws if so. The
second of the two always sees the first.

Why a slow observer of an old generation does no harm: the newest generation and its predecessor
are never deleted, older ones are deleted only by the owner, and a worker withdraws the generation
it created if it sees a newer one.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from scaling.sweep.shared import owner
from scaling.sweep.shared.generations import NAME, Generations
from scaling.utils import signals
from scaling.utils.errors import UserError, one_line

log = logging.getLogger("scaling")


@dataclass(frozen=True)
class Holder:
    """The owner of a job, as one reading of its claim shows it."""

    host: str  # "?" if the claim's file cannot be read
    pid: int
    launch: str
    alive: bool  # judged by its process if that is on this machine, and by `age`
    age: float  # seconds since its last renewal, by the clocks of both machines; for display only
    attempts: int


class Claims:
    """The claims below one folder or URL, e.g. `<workdir>/claims`; thread-safe.

    `heartbeat`: seconds between renewals. `stale_after`: seconds without a renewal after which
    another worker may take over a claim; at least three times the heartbeat.
    """

    def __init__(self, folder: Path | str, *, heartbeat: float, stale_after: float):
        if not 0 < 3 * heartbeat <= stale_after:
            raise UserError(
                f"launch.stale_seconds={stale_after:g} must be at least three times "
                f"launch.heartbeat_seconds={heartbeat:g}, and both above 0"
            )
        self.folder, self.heartbeat, self.stale_after = folder, heartbeat, stale_after
        self.generations = Generations(folder)
        # the claims of others as this process last saw them: generation, content, first seen at
        self._seen: dict[str, tuple[int, bytes, float]] = {}
        self._held: set[Claim] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, name: str, launch: str) -> Claim | None:
        """Claim job `name`; return None if another worker's claim is alive, or may be.

        Raises UserError if the claim cannot be written.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a claim")
        try:
            claim = self._take(name, launch)
        except OSError as error:
            raise UserError(
                f"{self.folder}: no claim can be written there ({one_line(error, 200)}); "
                "make it writable, or free some space"
            ) from error
        if claim:
            self._seen.pop(name, None)
            self._renew_from_now_on(claim)
        return claim

    def holders(self) -> dict[str, Holder]:
        """Return the owner of each job that is claimed and not released.

        Costs one listing, and one read per claimed job.
        """
        held = {}
        for name, (number, free) in self.generations.newest_of_all().items():
            if free:
                continue
            content = self.generations.read(name, number)
            if content is None:
                continue  # released meanwhile
            record = owner.parse(content)
            if record is None:
                held[name] = Holder("?", 0, "?", False, float("nan"), 0)
                continue
            age = max(0.0, time.time() - record.time)
            alive = not record.dead and age < self.stale_after
            held[name] = Holder(record.host, record.pid, record.launch, alive, age, record.attempts)
        return held

    def _take(self, name: str, launch: str) -> Claim | None:
        number, free = self.generations.newest(name)
        attempts, stale_content = 0, None  # content that must not change during the takeover
        if number and not free:
            content = self.generations.read(name, number)
            if content is None:
                return None  # it changed meanwhile
            record = owner.parse(content)
            # A generation still "taking" may compete with a live claim: wait until it is stale.
            dead = record is not None and record.dead and record.state == "held"
            if not dead:
                if not self._unchanged(name, number, content):
                    return None
                stale_content = content
            if record and record.launch == launch:
                attempts = record.attempts + (record.state == "held")
        state = "held" if stale_content is None else "taking"
        record = owner.this_process(uuid.uuid4().hex, launch, attempts, state)
        claim = Claim(self, name, number + 1, record)
        if not self.generations.create(name, number + 1, claim.content()):
            return None
        takeover = stale_content is not None
        renewed = takeover and self.generations.read(name, number) != stale_content
        if renewed or self.generations.newest(name) != (number + 1, False):
            self.generations.withdraw(name, number + 1)
            return None
        if takeover and not claim.confirm():
            return None
        # The predecessor stays: a listing that runs while generations change may miss the newest.
        self.generations.clean(name, number - 1)
        return claim

    def _unchanged(self, name: str, number: int, content: bytes) -> bool:
        """Return whether this process saw the same content at least `stale_after` seconds ago."""
        now = time.monotonic()  # pauses while a laptop sleeps, as the owner's renewals do
        seen = self._seen.get(name)
        if seen is None or seen[:2] != (number, content):
            self._seen[name] = (number, content, now)
            return False
        return now - seen[2] >= self.stale_after

    def _renew_from_now_on(self, claim: Claim) -> None:
        signals.before_forced_end(self._release_all)
        with self._lock:
            self._held.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._renewals, name="claims", daemon=True)
                self._thread.start()

    def _release_all(self, code: int, line: str) -> None:
        """Release the claims of a process that ends now: its end is no death of a worker."""
        for claim in list(self._held):
            claim.release()

    def _renewals(self) -> None:
        warn = log.warning  # only once, since the same line would repeat with every heartbeat
        while True:
            time.sleep(self.heartbeat)
            with self._lock:
                self._held = {claim for claim in self._held if not claim.ended}
                if not self._held:
                    self._thread = None
                    return
                held = list(self._held)
            for claim in held:
                try:
                    claim.confirm()
                except OSError as error:
                    warn("warning: claim of %s not renewed: %s", claim.name, one_line(error, 200))
                    warn = log.debug


class Claim:
    """A job held by this process; as a context manager it releases the job at the end."""

    def __init__(self, claims: Claims, name: str, number: int, record: owner.Record):
        self.name, self.attempts = name, record.attempts
        self.ended = False  # lost or released: no more renewals
        self._claims, self._number, self._record = claims, number, record
        self._lost = False
        self._confirmed = _uptime()
        self._lock = threading.Lock()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *exception) -> None:
        self.release()

    def lost(self) -> bool:
        """Return whether another worker took the job over, or could have; then write nothing more.

        Answers from memory while renewals succeed. Otherwise it tries one renewal now.
        """
        if not self.ended and self._overdue():
            try:
                self.confirm()
            except OSError as error:
                log.warning("warning: claim of %s given up: %s", self.name, one_line(error, 200))
                self._lost = self.ended = True
        return self._lost

    def release(self) -> None:
        """Let any worker take the job from now on. A second call, or a lost claim, does nothing."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
            try:
                self._claims.generations.release(self.name, self._number)
            except OSError as error:  # it becomes stale by itself
                log.warning(
                    "warning: claim of %s not released: %s", self.name, one_line(error, 200)
                )

    def confirm(self) -> bool:
        """Renew, then look for a newer generation; return False if the claim is lost.

        Raises OSError if the storage cannot be written or read.
        """
        with self._lock:
            if self.ended:
                return not self._lost
            start = _uptime()
            if self._overdue() and self._superseded():
                return False  # without a last renewal, which would only leave a file to delete
            record = self._record
            self._record = dataclasses.replace(record, beat=record.beat + 1, state="held")
            self._claims.generations.replace(self.name, self._number, self.content())
            if self._superseded():
                return False
            self._confirmed = start
            return True

    def forgive(self) -> None:
        """Reset the count of deaths, since the job made progress. Raises OSError as `confirm`."""
        with self._lock:
            self.attempts = 0
            self._record = dataclasses.replace(self._record, attempts=0)
        self.confirm()

    def content(self) -> bytes:
        """Return the bytes of the claim's file, with the current time."""
        return dataclasses.replace(self._record, time=time.time()).to_bytes()

    def _overdue(self) -> bool:
        return _uptime() - self._confirmed >= self._claims.stale_after

    def _superseded(self) -> bool:
        newer = self._claims.generations.newest(self.name)[0] > self._number
        self._lost = self.ended = newer or self._lost
        return newer


def _uptime() -> float:
    """Return seconds of uptime, including suspension, since other machines keep running."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
