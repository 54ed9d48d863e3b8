"""Represent a sweep at one moment, as `scaling.sweep.execute.progress` reads it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from scaling import results

STATES = ("running", "failed", "diverged", "paused", "done", "stopped", "waiting")
ENDED = ("done", "diverged", "stopped")  # these have a result and are never trained again


@dataclass(frozen=True)
class RunState:
    """One planned run and its progress."""

    run_id: str
    state: str  # one of STATES
    n_params: int
    flops: float  # of the whole run
    fraction: float  # trained share of its tokens
    loss: float | None  # the held-out loss if it is done, else the last training loss
    reason: str  # of a failure, a divergence or a stop
    seconds_left: float | None  # estimated time of one worker; None if unknown

    @property
    def spent(self) -> float:
        return self.flops * self.fraction

    @property
    def left(self) -> float:
        return 0.0 if self.state in ENDED else self.flops - self.spent


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment. FLOPs by the "exact" convention, as planned."""

    runs: list[RunState]  # in the plan's order
    others: list[results.RunResult]  # rows of the workdir outside the plan: the held-out run
    damaged: list[str]  # one line per result that cannot be read
    rate: float | None  # FLOP/s of all workers, measured between looks; None in the first looks

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs by state, without empty states."""
        counts = Counter(r.state for r in self.runs)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def flops(self) -> float:
        return sum(r.flops for r in self.runs)

    @property
    def spent(self) -> float:
        return sum(r.spent for r in self.runs)

    @property
    def left(self) -> float:
        """FLOPs still to train, with those of failed runs, which the next launch tries again."""
        return sum(r.left for r in self.runs)

    @property
    def ended(self) -> bool:
        """True if every run has its result; a failed run has none."""
        return all(r.state in ENDED for r in self.runs)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last run ends with the workers of now; None without workers."""
        if self.ended:
            return 0.0
        seconds = [r.seconds_left for r in self.runs if r.state not in ENDED]
        workers = self.counts.get("running", 0)
        if not workers or None in seconds:
            return None
        return sum(s for s in seconds if s) / workers

    @property
    def best(self) -> RunState | None:
        """The done run of lowest held-out loss."""
        done = [r for r in self.runs if r.state == "done" and r.loss is not None]
        return min(done, key=lambda r: (r.loss, r.run_id)) if done else None
