"""Which worker has which job: claims on a storage that all workers see, with no server and no locks.

A claim of a job is a generation, the file `<name>/<n>.json`. Generation n + 1 is created, exclusively,
by whoever finds n released (`<n>.free` stands beside it) or stale. The newest generation holds the job;
an owner that sees a newer one has lost it. Stale is

- at once: the owner's process is gone and it ran on the observer's own machine;
- else: the observer itself saw no renewal for `stale_after` seconds. Clocks of different machines are
  never compared.

That a stopped owner and its successor never both believe: the owner trusts a claim for `stale_after`
seconds from the start of its last confirmed renewal, and no successor can come before. After that it
must first renew, then look for a newer generation, while a successor first creates its generation, then
looks whether the old one was renewed, and steps back if so. Whoever is second sees the other.

That a slow observer of an old generation does no harm: the newest generation and the one before are never
deleted, older ones only by its owner, and whoever created a generation gives it up where it finds a
newer one.
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
from scaling.utils.errors import UserError, one_line

log = logging.getLogger("scaling")


@dataclass(frozen=True)
class Holder:
    """Who holds a job, as far as one look can tell."""

    host: str  # "?" where the claim's file cannot be read
    pid: int
    launch: str
    alive: bool  # by its process where that is on this machine, and by `age`
    age: float  # seconds since its last renewal, by the clocks of both machines; only to be shown
    attempts: int


class Claims:
    """The claims below one folder or URL, e.g. `<workdir>/claims`; safe for many threads.

    `heartbeat`: seconds between renewals. `stale_after`: seconds without one, after which a claim may
    be taken over; at least three times the heartbeat.
    """

    def __init__(self, folder: Path | str, *, heartbeat: float, stale_after: float):
        if not 0 < 3 * heartbeat <= stale_after:
            raise UserError(
                f"launch.stale_seconds={stale_after:g} must be at least three times "
                f"launch.heartbeat_seconds={heartbeat:g}, and both above 0"
            )
        self.folder, self.heartbeat, self.stale_after = folder, heartbeat, stale_after
        self.generations = Generations(folder)
        # what this process last saw of others' claims: generation, content, since when
        self._seen: dict[str, tuple[int, bytes, float]] = {}
        self._held: set[Claim] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, name: str, launch: str) -> Claim | None:
        """The claim of job `name`, or None where somebody else's is alive, or may be.

        Raises UserError where the claim cannot be written.
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
        """The jobs that are claimed and not released. One listing, and a read of each of these."""
        held = {}
        for name, (number, free) in self.generations.newest_of_all().items():
            if free:
                continue
            content = self.generations.read(name, number)
            if content is None:
                continue  # released while we looked
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
        attempts, judged = 0, None  # judged: content that must not change while we take over
        if number and not free:
            content = self.generations.read(name, number)
            if content is None:
                return None  # it changed while we looked
            record = owner.parse(content)
            # A generation still "taking" may have stepped into a living claim: wait for the time.
            dead = record is not None and record.dead and record.state == "held"
            if not dead:
                if not self._unchanged(name, number, content):
                    return None
                judged = content
            if record and record.launch == launch:
                attempts = record.attempts + (record.state == "held")
        state = "held" if judged is None else "taking"
        record = owner.this_process(uuid.uuid4().hex, launch, attempts, state)
        claim = Claim(self, name, number + 1, record)
        if not self.generations.create(name, number + 1, claim.content()):
            return None
        revived = judged is not None and self.generations.read(name, number) != judged
        if revived or self.generations.newest(name) != (number + 1, False):
            self.generations.withdraw(name, number + 1)
            return None
        if judged is not None and not claim.confirm():
            return None
        # The one before stays: a listing that runs while generations change may miss the youngest.
        self.generations.clean(name, number - 1)
        return claim

    def _unchanged(self, name: str, number: int, content: bytes) -> bool:
        """Whether this process saw the very same content `stale_after` seconds ago or earlier."""
        now = time.monotonic()  # stands still while a laptop sleeps, as the owner's renewals do
        seen = self._seen.get(name)
        if seen is None or seen[:2] != (number, content):
            self._seen[name] = (number, content, now)
            return False
        return now - seen[2] >= self.stale_after

    def _renew_from_now_on(self, claim: Claim) -> None:
        with self._lock:
            self._held.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._renewals, name="claims", daemon=True)
                self._thread.start()

    def _renewals(self) -> None:
        warn = log.warning  # once; then the same line would come with every heartbeat
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
    """A job held by this process; a context manager that releases it."""

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
        """Whether somebody took it over, or could have; its holder must then write nothing more.

        Answered from memory while renewals succeed; else it tries one now.
        """
        if not self.ended and self._overdue():
            try:
                self.confirm()
            except OSError as error:
                log.warning("warning: claim of %s given up: %s", self.name, one_line(error, 200))
                self._lost = self.ended = True
        return self._lost

    def release(self) -> None:
        """Let anybody take the job from now on. Twice, or of a lost claim, it does nothing."""
        with self._lock:
            if self.ended:
                return
            self.ended = True
            try:
                self._claims.generations.release(self.name, self._number)
            except OSError as error:  # it goes stale by itself
                log.warning(
                    "warning: claim of %s not released: %s", self.name, one_line(error, 200)
                )

    def confirm(self) -> bool:
        """Renew, then look for a newer generation; False where the claim is lost.

        Raises OSError where the storage cannot be written or read.
        """
        with self._lock:
            if self.ended:
                return not self._lost
            start = _uptime()
            if self._overdue() and self._superseded():
                return False  # without a last renewal, which would only leave a file to clean
            record = self._record
            self._record = dataclasses.replace(record, beat=record.beat + 1, state="held")
            self._claims.generations.replace(self.name, self._number, self.content())
            if self._superseded():
                return False
            self._confirmed = start
            return True

    def forgive(self) -> None:
        """Count no deaths before now, since the job has come further. Raises OSError as `confirm`."""
        with self._lock:
            self.attempts = 0
            self._record = dataclasses.replace(self._record, attempts=0)
        self.confirm()

    def content(self) -> bytes:
        return dataclasses.replace(self._record, time=time.time()).to_bytes()

    def _overdue(self) -> bool:
        return _uptime() - self._confirmed >= self._claims.stale_after

    def _superseded(self) -> bool:
        newer = self._claims.generations.newest(self.name)[0] > self._number
        self._lost = self.ended = newer or self._lost
        return newer


def _uptime() -> float:
    """Seconds, those of a suspended machine with them: others went on meanwhile."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
