"""Kill the processes of a sweep at seeded random moments, and record the cost of each death."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from scaling.sweep.shared.claims import Claims
from tests.common import ROOT
from tests.sweep import launched


def command(workdir: Path, *args: str) -> subprocess.Popen:
    """Start `scaling sweep` on the stored config of a workdir."""
    return subprocess.Popen(
        [sys.executable, "-m", "scaling", "sweep", f"--workdir={workdir}", *args],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def results(workdir: Path) -> int:
    return len(list(workdir.glob("runs/*/result.json")))


def rows(run: Path) -> list[int]:
    """Return the steps of all intact rows ever written for a run, in order of writing."""
    steps = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            steps.append(json.loads(line)["step"])
    return steps


def begins(steps: list[int]) -> list[int]:
    """Return the steps from which a run resumed and repeated rows."""
    every = steps[0]
    return [b - every for a, b in itertools.pairwise(steps) if b <= a]


def newest_checkpoint(run: Path) -> int:
    return max((int(p.name) for p in run.glob("checkpoints/*") if p.name.isdigit()), default=0)


@dataclass
class Killer:
    """Kill a worker or the launcher by SIGKILL `kills` times; restart the launcher when it dies."""

    workdir: Path
    args: list[str]
    seed: int
    forks: dict[str, int]  # run_id -> the step of its fork, 0 without one
    kills: int = 20
    longest: float = 0.4  # longest seconds from a sign of life to the kill; uniform draws
    done: int = 0
    in_training: int = 0  # kills of a run between its first row and its result
    launchers: int = 0  # kills of a launcher
    # run_id -> its newest checkpoint at each death
    met: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self):
        self._claims = Claims(self.workdir / "claims", heartbeat=1, stale_after=3)

    def run(self) -> None:
        draw = random.Random(self.seed)
        launcher, self._then = command(self.workdir, *self.args), {}
        try:
            while self.done < self.kills and launcher.poll() is None:
                sign = draw.choices((self._saved, self._rows, self._workers), (6, 3, 2))[0]
                while launcher.poll() is None and sign() <= self._then.get(sign, 0):
                    time.sleep(0.02)
                time.sleep(draw.uniform(0, self.longest))
                workers, training = launched.workers_of(self.workdir), self.training()
                if launcher.poll() is not None or not workers:
                    continue
                self.done += 1
                if draw.random() < 0.2:
                    self.launchers += 1
                    victims = [launcher.pid, *(workers if draw.random() < 0.5 else [])]
                else:
                    victims = [draw.choice(sorted(training) or workers)]
                self._kill(victims)
                if launcher.pid in victims:
                    launcher.communicate()
                    launcher = command(self.workdir, *self.args)
        finally:
            ended = launcher.wait(timeout=240)
            self.code, self.error = ended, launcher.stderr.read()

    def _saved(self) -> int:
        return len(list(self.workdir.glob("runs/*/checkpoints/*[0-9]")))

    def _rows(self) -> int:
        return sum(p.stat().st_size for p in self.workdir.glob("runs/*/metrics.jsonl"))

    def _workers(self) -> int:
        return len(launched.workers_of(self.workdir))

    def training(self) -> dict[int, list[Path]]:
        """Return process id of a worker -> its runs between their first row and their result."""
        alive, runs = launched.workers_of(self.workdir), {}
        for name, holder in self._claims.holders().items():
            run = self.workdir / "runs" / name
            begun = (run / "metrics.jsonl").exists() and not (run / "result.json").exists()
            if begun and holder.pid in alive:
                runs.setdefault(holder.pid, []).append(run)
        return runs

    def _kill(self, victims: list[int]) -> None:
        """Kill all at once, after suspending them, so that the disk shows the state at death."""
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        hit = [run for pid, runs in self.training().items() if pid in victims for run in runs]
        self.in_training += bool(hit)
        for run in hit:
            step = max(newest_checkpoint(run), self.forks[run.name])
            self.met.setdefault(run.name, []).append(step)
        self._then = {sign: sign() for sign in (self._saved, self._rows)}
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
