"""How far a sweep is, from its workdir alone: any number of workers write it while this reads.

What a look costs: one listing of `runs/`, then for a run that has ended its result, once; for one that
has not the last 4 KiB of its `metrics.jsonl`. Nothing is locked and nothing is written.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import results
from scaling.sweep.plan import PlannedRun

STATES = ("running", "failed", "diverged", "paused", "done", "waiting")
ENDED = ("done", "diverged")  # these have a result and are never trained again
TAIL_BYTES = 4096  # holds at least ten rows of metrics.jsonl
RATE_SECONDS = (10.0, 120.0)  # the measured rate is that of at least and at most this long


@dataclass(frozen=True)
class RunState:
    """One planned run, as far as it is."""

    run_id: str
    state: str  # one of STATES
    n_params: int
    flops: float  # of the whole run
    fraction: float  # of its tokens that are trained
    loss: float | None  # held out where it is done, else the last training loss
    reason: str  # of a failure or a divergence
    rate: float | None  # FLOP/s; of a run that is not done an estimate, see `Progress.look`
    eta_seconds: float | None  # of a running one

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
    rate: float | None  # FLOP/s of all workers together; None where none works
    measured: bool  # the rate was measured between looks, not estimated

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
    def eta_seconds(self) -> float | None:
        if not self.left:
            return 0.0
        return self.left / self.rate if self.rate else None

    @property
    def best(self) -> RunState | None:
        """The done run of lowest held-out loss."""
        done = [r for r in self.runs if r.state == "done" and r.loss is not None]
        return min(done, key=lambda r: (r.loss, r.run_id)) if done else None


def by_id(runs: Iterable[PlannedRun]) -> dict[str, PlannedRun]:
    """run_id -> planned run, in order."""
    from scaling import train

    return {train.run_id(run.config): run for run in runs}


class Progress:
    """Looks at one workdir again and again; results, which are written once, are read once."""

    def __init__(
        self,
        planned: Mapping[str, PlannedRun],
        workdir: Path,
        stale_seconds: float,
        clock: Callable[[], float] = time.time,
    ):
        """`stale_seconds`: a run whose metrics did not change for so long is paused."""
        self.planned, self.workdir, self.stale_seconds = planned, workdir, stale_seconds
        self._clock = clock
        self._ended: dict[str, RunState] = {}
        self._others: dict[str, results.RunResult] = {}
        self._history: list[tuple[float, float]] = []  # (time, FLOPs spent) of the looks so far

    def look(self, alive: Collection[str] | None = None) -> Snapshot:
        """The sweep now. `alive`: run ids whose claim is alive; without it the metrics' age decides.

        The rate is what was trained since a look of the last `RATE_SECONDS`, where there was one and
        anything was; else the sum over the running runs of the rate at which the done run nearest
        in size trained, or, where none is done, of their own since they were begun.
        """
        now, names = self._clock(), results.run_names(self.workdir)
        there, damaged = set(names), list[str]()
        seen: dict[str, _Seen] = {}
        for name, run in self.planned.items():
            if name in there and name not in self._ended:
                seen[name] = self._see(name, run, now, alive, damaged)
        others = self._look_at_others(names, damaged)
        rates = [(r.n_params, r.rate) for r in self._ended.values() if r.rate]
        runs = []
        for name, run in self.planned.items():
            if name in self._ended:
                runs.append(self._ended[name])
            elif name in seen:
                runs.append(_state(name, run, seen[name], rates))
            else:
                state = "running" if alive is not None and name in alive else "waiting"
                runs.append(_state(name, run, _Seen(state), rates))
        running = [r.rate for r in runs if r.state == "running" and r.rate]
        measured = self._measured(now, sum(r.spent for r in runs))
        return Snapshot(
            runs=runs,
            others=others,
            damaged=damaged,
            rate=(measured or sum(running)) if running else None,
            measured=bool(running and measured),
        )

    def _look_at_others(self, names: list[str], damaged: list[str]) -> list[results.RunResult]:
        """The rows of runs outside the plan; what has ended is read once."""
        found = []
        for name in names:
            if name in self.planned:
                continue
            row = self._others.get(name)
            if row is None:
                try:
                    row = results.read_ended(self.workdir / "runs" / name)
                except results.DamagedResult as error:
                    damaged.append(f"{error}; skipped, delete it to train that run again")
            if row is not None:
                found.append(row)
                if row.status in ENDED:
                    self._others[name] = row
        return found

    def _see(self, name, run, now, alive, damaged) -> _Seen:
        """What the run's folder says; a run that has ended is remembered."""
        folder = self.workdir / "runs" / name
        try:
            ended = results.read_ended(folder)
        except results.DamagedResult as error:
            damaged.append(f"{error}; skipped, delete it to train that run again")
            return _Seen("failed", reason="its result is damaged")
        if ended is not None and ended.status == "done":
            rate = ended.flops_exact / ended.wall_time if ended.wall_time > 0 else None
            self._ended[name] = RunState(
                name, "done", run.n_params, run.flops, 1.0, ended.loss, "", rate, None
            )
            return _Seen("done")
        row, written = last_row(folder / "metrics.jsonl")
        fraction = min(1.0, row["tokens"] / run.tokens) if row else 0.0
        loss = row["loss"] if row else None
        if ended is not None and ended.status in ENDED:
            self._ended[name] = RunState(
                name, ended.status, run.n_params, run.flops, fraction, loss, ended.reason, None, None
            )
            return _Seen(ended.status)
        failed_at = _mtime(folder / "failure.json") if ended is not None else -math.inf
        if alive is None:
            begun = max(written, _mtime(folder / "config.json"))
            working = begun > failed_at and now - begun < self.stale_seconds
        else:
            working = name in alive
        if ended is not None and not working:
            return _Seen("failed", fraction, loss, ended.reason)
        seconds = written - _mtime(folder / "config.json")
        rate = run.flops * fraction / seconds if row and seconds > 0 else None
        return _Seen("running" if working else "paused", fraction, loss, "", rate)

    def _measured(self, now: float, spent: float) -> float | None:
        """FLOP/s between the oldest look within `RATE_SECONDS` and this one, if any were spent."""
        shortest, longest = RATE_SECONDS
        self._history = [h for h in self._history if now - h[0] <= longest]
        self._history.append((now, spent))
        seconds, flops = now - self._history[0][0], spent - self._history[0][1]
        return flops / seconds if seconds >= shortest and flops > 0 else None


@dataclass(frozen=True)
class _Seen:
    """What one look found of a run that has no result."""

    state: str
    fraction: float = 0.0
    loss: float | None = None
    reason: str = ""
    rate: float | None = None  # its own, since it was begun


def _state(name: str, run: PlannedRun, seen: _Seen, rates: list[tuple[int, float]]) -> RunState:
    """`rates`: (n_params, FLOP/s) of the done runs."""
    rate, eta = seen.rate, None
    if seen.state == "running":
        if rates:
            rate = min(rates, key=lambda r: abs(math.log(r[0] / run.n_params)))[1]
        eta = run.flops * (1 - seen.fraction) / rate if rate else None
    return RunState(
        name, seen.state, run.n_params, run.flops, seen.fraction, seen.loss, seen.reason, rate, eta
    )


def last_row(path: Path) -> tuple[dict[str, Any] | None, float]:
    """(the last intact row of a `metrics.jsonl`, seconds of its last change); (None, -inf) without one.

    Only the file's end is read. A row that is being written, or was torn by a kill, is passed over.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            file.seek(max(0, status.st_size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).splitlines()
    except FileNotFoundError:
        return None, -math.inf
    for line in reversed(lines):
        try:
            row = json.loads(line)
            return {"tokens": row["tokens"], "loss": row["loss"]}, status.st_mtime
        except (ValueError, KeyError, TypeError):
            continue
    return None, status.st_mtime


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return -math.inf
