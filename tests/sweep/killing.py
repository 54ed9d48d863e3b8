"""A seeded hand that kills the processes of a sweep at random moments, and a ledger of what each death cost."""

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


def command(workdir: Path, *args: str) -> subprocess.Popen:
    """`scaling sweep` on a begun workdir's own config, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "scaling", "sweep", f"--workdir={workdir}", *args],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def workers_of(workdir: Path) -> list[int]:
    """Process ids of the workers on this workdir."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if "work" in words and f"--workdir={workdir}" in words:
                found.append(int(path.parent.name))
    return sorted(found)


def results(workdir: Path) -> int:
    return len(list(workdir.glob("runs/*/result.json")))


def rows(run: Path) -> list[int]:
    """Steps of all intact rows that were ever written for a run, in their order."""
    found = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line)["step"])
    return found


def begins(steps: list[int]) -> list[int]:
    """The steps after which a run was gone on with and wrote again what had been written."""
    every = steps[0]
    return [b - every for a, b in itertools.pairwise(steps) if b <= a]


def newest_checkpoint(run: Path) -> int:
    return max((int(p.name) for p in run.glob("checkpoints/*") if p.name.isdigit()), default=0)


@dataclass
class Killer:
    """Kills a worker or the launcher, -9, `kills` times, and starts the launcher again after its deaths."""

    workdir: Path
    args: list[str]
    seed: int
    forks: dict[str, int]  # run_id: the step that it forks at, 0 where it does not
    kills: int = 20
    longest: float = 0.4  # seconds from a sign of life to the kill, drawn evenly up to here
    done: int = 0
    in_training: int = 0  # kills that met a run between its first row and its result
    launchers: int = 0  # ... and those that met a launcher
    met: dict[str, list[int]] = field(
        default_factory=dict
    )  # run_id: its newest checkpoint, by death

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
                workers, training = workers_of(self.workdir), self.training()
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
        return len(workers_of(self.workdir))

    def training(self) -> dict[int, list[Path]]:
        """Worker's process id: the runs that it holds between their first row and their result."""
        alive, found = workers_of(self.workdir), {}
        for name, holder in self._claims.holders().items():
            run = self.workdir / "runs" / name
            begun = (run / "metrics.jsonl").exists() and not (run / "result.json").exists()
            if begun and holder.pid in alive:
                found.setdefault(holder.pid, []).append(run)
        return found

    def _kill(self, victims: list[int]) -> None:
        """All at once. They are stopped first, so that what is on disk is what they leave there."""
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
