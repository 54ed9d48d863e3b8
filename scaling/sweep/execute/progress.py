"""How far a sweep is, from its workdir alone: any number of workers write it while this reads.

What a look costs: one listing of `runs/`, then for a run that has ended its result, once; for one that
has not the last 4 KiB of its `metrics.jsonl`. Nothing is locked and nothing is written.
"""

from __future__ import annotations

import bisect
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import results
from scaling.sweep.execute.jobs import JobRun
from scaling.sweep.execute.snapshot import ENDED, RunState, Snapshot

TAIL_BYTES = 4096  # holds at least ten rows of metrics.jsonl
RATE_SECONDS = (10.0, 120.0)  # the measured rate is that of at least and at most this long


class Progress:
    """Looks at one workdir again and again; results, which are written once, are read once."""

    def __init__(
        self,
        planned: Mapping[str, JobRun],
        workdir: Path,
        stale_seconds: float,
        clock: Callable[[], float] = time.time,
    ):
        """`stale_seconds`: a run whose metrics did not change for so long is paused."""
        self.planned, self.workdir, self.stale_seconds = planned, workdir, stale_seconds
        self._clock = clock
        self._ended: dict[str, RunState] = {}
        self._others: dict[str, results.RunResult] = {}
        self._timings: list[_Timing] = []  # of the done runs
        self._history: list[tuple[float, float]] = []  # (time, FLOPs spent) of the looks so far

    def look(self, alive: Collection[str] | None = None) -> Snapshot:
        """The sweep now. `alive`: run ids whose claim is alive; without it the metrics' age decides."""
        now, names = self._clock(), results.run_names(self.workdir)
        there, damaged = set(names), list[str]()
        seen: dict[str, _Seen] = {}
        for name, run in self.planned.items():
            if name in self._ended:
                continue
            if name in there:
                seen[name] = self._see(name, run, now, alive, damaged)
            else:
                working = alive is not None and name in alive
                seen[name] = _Seen("running" if working else "waiting")
        others = self._look_at_others(names, damaged)
        speed = _Speed(self._timings, [s for s in seen.values() if s.seconds])
        runs = [
            self._ended.get(name) or _state(name, run, seen[name], speed)
            for name, run in self.planned.items()
        ]
        rate = self._measured(now, sum(r.spent for r in runs))
        return Snapshot(runs=runs, others=others, damaged=damaged, rate=rate)

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
            self._ended[name] = RunState(
                name, "done", run.n_params, run.flops, 1.0, ended.loss, "", None
            )
            # a run of one dispatch has no clean speed, and says only what a run costs besides
            speed = ended.tokens_per_second
            training = run.tokens / speed if speed else 0.0
            rate = run.flops / training if training else None
            beside = max(0.0, ended.wall_time - training)
            self._timings.append(_Timing(run.n_params, rate, beside))
            return _Seen("done")
        row, written = last_row(folder / "metrics.jsonl")
        fraction = run.fraction(row["tokens"]) if row else 0.0
        loss = row["loss"] if row else None
        if ended is not None and ended.status in ENDED:
            self._ended[name] = RunState(
                name, ended.status, run.n_params, run.flops, fraction, loss, ended.reason, None
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
        seconds = written - _mtime(folder / "config.json") if row else 0.0
        spent = run.flops * fraction
        return _Seen("running" if working else "paused", fraction, loss, "", spent, seconds)

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
    spent: float = 0.0  # FLOPs ...
    seconds: float = 0.0  # ... in this time since it was begun, pauses included


@dataclass(frozen=True)
class _Timing:
    """What a done run took."""

    n_params: int
    rate: float | None  # FLOP/s of its training steps
    beside: float  # seconds of compilation, checkpoints and evaluations


class _Speed:
    """Seconds that a run takes: FLOPs at the rate of the done runs nearest in size, and the median of
    what they took beside their training steps. Where none is done, at the rate of those under way."""

    def __init__(self, timings: list[_Timing], under_way: list[_Seen]):
        self._rates = sorted((t.n_params, t.rate) for t in timings if t.rate)
        self._beside = statistics.median(t.beside for t in timings) if timings else 0.0
        seconds = sum(s.seconds for s in under_way)
        self._fallback = sum(s.spent for s in under_way) / seconds if seconds > 0 else None

    def seconds(self, n_params: int, flops: float, begun: bool) -> float | None:
        rate = self._fallback
        if self._rates:
            i = bisect.bisect_left(self._rates, (n_params, 0.0))
            near = self._rates[max(0, i - 1) : i + 1]
            rate = min(near, key=lambda r: abs(math.log(r[0] / n_params)))[1]
        return flops / rate + (0.0 if begun else self._beside) if rate else None


def _state(name: str, run: JobRun, seen: _Seen, speed: _Speed) -> RunState:
    left = run.flops * (1 - seen.fraction)
    seconds = speed.seconds(run.n_params, left, begun=seen.fraction > 0)
    return RunState(
        name, seen.state, run.n_params, run.flops, seen.fraction, seen.loss, seen.reason, seconds
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
    except OSError:  # none yet, or a run that fails of just this: the display must outlive it
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
