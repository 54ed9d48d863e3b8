"""Read the progress of a sweep from its workdir, while any number of workers write to it.

A look costs one listing of `runs/`, one read of each new result, and the last 4 KiB of the
`metrics.jsonl` of each unfinished run. It locks and writes nothing.
"""

from __future__ import annotations

import bisect
import contextlib
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
from scaling.utils import files

TAIL_BYTES = 4096  # holds at least ten rows of metrics.jsonl
RATE_SECONDS = (10.0, 120.0)  # shortest and longest time over which the rate is measured


class Progress:
    """Repeated looks at one workdir; a result, which never changes, is read once."""

    def __init__(
        self,
        planned: Mapping[str, JobRun],
        workdir: Path,
        stale_seconds: float,
        clock: Callable[[], float] = time.time,
    ):
        """`stale_seconds`: a run whose metrics do not change for this long counts as paused."""
        self.planned, self.workdir, self.stale_seconds = planned, workdir, stale_seconds
        self._clock = clock
        self._ended: dict[str, RunState] = {}
        self._others: dict[str, results.RunResult] = {}
        self._timings: list[_Timing] = []  # of the done runs
        self._history: list[tuple[float, float]] = []  # (time, FLOPs spent) of the looks so far

    def look(self, alive: Collection[str] | None = None) -> Snapshot:
        """Return the sweep at this moment.

        `alive`: run ids whose claim is alive; without it the age of the metrics decides.
        """
        now, names = self._clock(), results.run_names(self.workdir)
        existing, damaged = set(names), list[str]()
        views: dict[str, _RunView] = {}
        for name, run in self.planned.items():
            if name in self._ended:
                continue
            if name in existing:
                views[name] = self._view(name, run, now, alive, damaged)
            else:
                working = alive is not None and name in alive
                views[name] = _RunView("running" if working else "waiting")
        others = self._look_at_others(names, damaged)
        speed = _Speed(self._timings, [s for s in views.values() if s.seconds])
        runs = [
            self._ended.get(name) or _state(name, run, views[name], speed)
            for name, run in self.planned.items()
        ]
        rate = self._measured(now, sum(r.spent for r in runs))
        return Snapshot(runs=runs, others=others, damaged=damaged, rate=rate)

    def _look_at_others(self, names: list[str], damaged: list[str]) -> list[results.RunResult]:
        """Return the rows of runs outside the plan; ended runs are read once."""
        rows = []
        for name in names:
            if name in self.planned:
                continue
            row = self._others.get(name)
            if row is None:
                try:
                    row = results.read_ended(self.workdir / "runs" / name)
                except results.DamagedResult as error:
                    damaged.append(f"{error}; {results.SKIPPED}")
            if row is not None:
                rows.append(row)
                if row.status in ENDED:
                    self._others[name] = row
        return rows

    def _view(self, name, run, now, alive, damaged) -> _RunView:
        """Read the run's folder; remember a run that has ended."""
        folder = self.workdir / "runs" / name
        try:
            ended = results.read_ended(folder)
        except results.DamagedResult as error:
            damaged.append(f"{error}; {results.SKIPPED}")
            return _RunView("failed", reason="its result is damaged")
        if ended is not None and ended.status == "done":
            self._ended[name] = RunState(
                name, "done", run.n_params, run.flops, 1.0, ended.loss, "", None
            )
            # a run of few dispatches has no clean speed; all of its time counts as overhead
            speed = ended.tokens_per_second
            training = run.tokens / speed if speed else 0.0
            rate = run.flops / training if training else None
            overhead = max(0.0, ended.wall_time - training)
            self._timings.append(_Timing(run.n_params, rate, overhead))
            return _RunView("done")
        row, written = last_row(folder / "metrics.jsonl")
        fraction = run.fraction(row["tokens"]) if row else 0.0
        loss = row["loss"] if row else None
        if ended is not None and ended.status in ENDED:
            self._ended[name] = RunState(
                name, ended.status, run.n_params, run.flops, fraction, loss, ended.reason, None
            )
            return _RunView(ended.status)
        failed_at = _mtime(folder / "failure.json") if ended is not None else -math.inf
        if alive is None:
            changed_at = max(written, _mtime(folder / "config.json"))
            working = changed_at > failed_at and now - changed_at < self.stale_seconds
        else:
            working = name in alive
        if ended is not None and not working:
            return _RunView("failed", fraction, loss, ended.reason)
        seconds = written - _mtime(folder / "config.json") if row else 0.0
        spent = run.flops * fraction
        return _RunView("running" if working else "paused", fraction, loss, "", spent, seconds)

    def _measured(self, now: float, spent: float) -> float | None:
        """Return the FLOP/s since the oldest look within RATE_SECONDS, None if none were spent."""
        shortest, longest = RATE_SECONDS
        self._history = [h for h in self._history if now - h[0] <= longest]
        self._history.append((now, spent))
        seconds, flops = now - self._history[0][0], spent - self._history[0][1]
        return flops / seconds if seconds >= shortest and flops > 0 else None


@dataclass(frozen=True)
class _RunView:
    """The state of a run without a result, in one look."""

    state: str
    fraction: float = 0.0
    loss: float | None = None
    reason: str = ""
    spent: float = 0.0  # FLOPs ...
    seconds: float = 0.0  # ... in this time since its start, pauses included


@dataclass(frozen=True)
class _Timing:
    """The speed of a done run."""

    n_params: int
    rate: float | None  # FLOP/s of its training steps
    overhead: float  # seconds of compilation, checkpoints and evaluations


class _Speed:
    """An estimate of the seconds that a run takes.

    It uses the rate of the done run nearest in size, and the median overhead of the done runs. If
    no run is done, it uses the rate of the running ones.
    """

    def __init__(self, timings: list[_Timing], running: list[_RunView]):
        self._rates = sorted((t.n_params, t.rate) for t in timings if t.rate)
        self._overhead = statistics.median(t.overhead for t in timings) if timings else 0.0
        seconds = sum(s.seconds for s in running)
        self._fallback = sum(s.spent for s in running) / seconds if seconds > 0 else None

    def seconds(self, n_params: int, flops: float, started: bool) -> float | None:
        """Return the seconds of `flops` of a run of this size; None if no rate is known."""
        rate = self._fallback
        if self._rates:
            i = bisect.bisect_left(self._rates, (n_params, 0.0))
            near = self._rates[max(0, i - 1) : i + 1]
            rate = min(near, key=lambda r: abs(math.log(r[0] / n_params)))[1]
        return flops / rate + (0.0 if started else self._overhead) if rate else None


def _state(name: str, run: JobRun, view: _RunView, speed: _Speed) -> RunState:
    flops_left = run.flops * (1 - view.fraction)
    seconds = speed.seconds(run.n_params, flops_left, started=view.fraction > 0)
    return RunState(
        name, view.state, run.n_params, run.flops, view.fraction, view.loss, view.reason, seconds
    )


def last_row(path: Path) -> tuple[dict[str, Any] | None, float]:
    """Return (last intact row of a `metrics.jsonl`, time of its last change), or (None, -inf).

    Reads only the end of the file. Skips a row that is incomplete or torn by a kill.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            file.seek(max(0, status.st_size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).splitlines()
    except OSError:  # no file yet, or an unreadable one, which must not end the display
        return None, -math.inf
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            row = files.parse_row(line, path, "step", ("tokens", "loss"))
            return {name: row[name] for name in ("tokens", "loss")}, status.st_mtime
    return None, status.st_mtime


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return -math.inf
