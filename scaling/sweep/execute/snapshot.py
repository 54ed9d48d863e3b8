"""A sweep at one moment: what `scaling.sweep.execute.progress` finds, and what follows from it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from scaling import results

STATES = ("running", "failed", "diverged", "paused", "done", "stopped", "waiting")
ENDED = ("done", "diverged", "stopped")  # these have a result and are never trained again


@dataclass(frozen=True)
class RunState:
    """One planned run, as far as it is."""

    run_id: str
    state: str  # one of STATES
    n_params: int
    flops: float  # of the whole run
    fraction: float  # of its tokens that are trained
    loss: float | None  # held out where it is done, else the last training loss
    reason: str  # of a failure, a divergence or a stop
    seconds_left: float | None  # of one worker's time, estimated; None where nothing is known

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
    rate: float | None  # FLOP/s of all workers, measured between looks; None in the first ones

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state, of the states that there are."""
        found = Counter(r.state for r in self.runs)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def flops(self) -> float:
        return sum(r.flops for r in self.runs)

    @property
    def spent(self) -> float:
        return sum(r.spent for r in self.runs)

    @property
    def left(self) -> float:
        """What is still to be trained; a failed run counts, since the next launch tries it again."""
        return sum(r.left for r in self.runs)

    @property
    def ended(self) -> bool:
        """Every run has its result; what failed has none."""
        return all(r.state in ENDED for r in self.runs)

    @property
    def eta_seconds(self) -> float | None:
        """Until the last run ends, with as many workers as work now; None where none does."""
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
