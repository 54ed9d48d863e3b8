"""Works through the jobs of a sweep, by claims, until none is left that it could do.

Any number of workers on any number of machines may work on one workdir: what is done stands in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from scaling import distributed, files, results
from scaling.errors import LostClaim, Preempted, UserError
from scaling.sweep.claims import Claim, Claims
from scaling.sweep.jobs import Job, Part

log = logging.getLogger("scaling")

DEATHS = (
    3  # workers that died over a run without a release, in one launch, before it counts as failed
)
END, WAIT = -1, -2  # what process 0 tells the others besides a job's number
POLL_SECONDS = 0.5  # between looks at jobs that others hold or that wait for their trunk


class Worker:
    """One process's work on one workdir.

    `on_progress(part, tokens)` is told of the tokens trained, `on_end(part, result or reason)` of
    every run that ended here.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        launch: str,
        claims: Claims,
        role: str = "sweep",
        on_progress: Callable[[Job, int], None] = lambda job, tokens: None,
        on_end: Callable[[Part, results.RunResult | str], None] = lambda part, ended: None,
    ):
        self.workdir, self.launch, self.claims, self.role = workdir, launch, claims, role
        self.on_progress, self.on_end = on_progress, on_end
        self.problems: list[str] = []
        self._unwritten: set[str] = set()  # failures that found no room on disk

    def work(self, jobs: Sequence[Job]) -> None:
        """Until every job has ended, here or elsewhere.

        Where several processes train each run together, process 0 takes the claims and tells the others
        which of the equal `jobs` comes next.

        Raises UserError where claims cannot be written, and Preempted after a signal, all saved.
        """
        if not distributed.writer():
            return self._follow(jobs)
        try:
            self._lead(jobs)
        finally:
            distributed.from_writer(END)

    def _follow(self, jobs: Sequence[Job]) -> None:
        stopped: Preempted | None = None
        while (k := distributed.from_writer(END)) != END:
            if k != WAIT:
                try:
                    self._train(jobs[k], lambda: None)
                except Preempted as error:  # process 0 has met it, too, and ends the loop
                    stopped = error
        if stopped:
            raise stopped

    def _lead(self, jobs: Sequence[Job]) -> None:
        number = {id(job): k for k, job in enumerate(jobs)}
        left = list(jobs)
        while left:
            taken = False
            for job in list(left):
                if all(self._ended(part) for part in job):
                    left.remove(job)
                elif self._ready(job) and self._try(job, number[id(job)]):
                    taken = True
                    break  # the earliest open job is the next one to look at
            if left and not taken:
                distributed.from_writer(WAIT)
                time.sleep(POLL_SECONDS)

    def _folder(self, part: Part) -> Path:
        return self.workdir / "runs" / part.run.run_id

    def _ended(self, part: Part) -> bool:
        """Whether the run has a result, or failed in this launch."""
        folder = self._folder(part)
        return (
            part.run.run_id in self._unwritten
            or (folder / "result.json").exists()
            or self._failed(folder)
        )

    def _failed(self, folder: Path) -> bool:
        try:
            return json.loads((folder / "failure.json").read_text()).get("launch") == self.launch
        except (OSError, ValueError, AttributeError):
            return False

    def _ready(self, job: Job) -> bool:
        """Whether all trunks have come to where this job forks, or will never come."""
        for part in job:
            if part.trunk:
                trunk = self.workdir / "runs" / part.trunk
                there = trunk / "checkpoints" / str(part.fork_step)
                ended = (trunk / "result.json").exists() or self._failed(trunk)
                if not there.is_dir() and not ended:
                    return False
        return True

    def _try(self, job: Job, number: int) -> bool:
        """Take all runs of the job and train them; False where one of them is somebody else's.

        `number` is the job's place in the list that all processes have.
        """
        with contextlib.ExitStack() as held:
            claims: list[Claim] = []
            for part in sorted(job, key=lambda p: p.run.run_id):
                claim = self.claims.take(part.run.run_id, self.launch)
                if claim is None:
                    return False
                claims.append(held.enter_context(claim))
            if all(self._ended(part) for part in job):  # between the look and the claim
                return True
            dead = max(claim.attempts for claim in claims)
            if dead >= DEATHS:
                for part in job:
                    self._fail(
                        part, f"{dead} workers died over it, one after another (out of memory?)"
                    )
                return True

            def check() -> None:
                lost = [claim.name for claim in claims if claim.lost()]
                if lost:
                    raise LostClaim(f"{lost[0]}: another worker took it over")

            distributed.from_writer(number)
            self._train(job, check)
        return True

    def _train(self, job: Job, check: Callable[[], None]) -> None:
        from scaling import train

        specs = [part.spec(self.workdir, self.role) for part in job]
        try:
            outcomes = train.train_runs(
                specs,
                on_progress=lambda tokens: self.on_progress(job, tokens),
                before_writing=check,
            )
        except Preempted:
            raise
        except LostClaim as error:
            log.warning("warning: %s", error)
            return
        except Exception as error:  # whatever a run dies of, its siblings go on
            log.debug("job failed", exc_info=True)
            if len(job) > 1:
                log.warning(
                    "warning: a pack of %d runs failed (%s); one by one", len(job), _line(error)
                )
                for part in job:
                    self._train((part,), check)
                return
            outcomes = [error]
        for part, outcome in zip(job, outcomes, strict=True):
            if isinstance(outcome, results.DamagedResult):
                self.problems.append(f"{outcome}; skipped, delete it to train that run again")
            elif isinstance(outcome, Exception):
                log.debug("run failed", exc_info=outcome)
                self._fail(part, _line(outcome))
            elif outcome is not None:
                if outcome.status != "done":
                    self.problems.append(f"{outcome.run_id}: {outcome.status}, {outcome.reason}")
                self.on_end(part, outcome)

    def _fail(self, part: Part, reason: str) -> None:
        """The run's row with its reason, kept until a later launch tries it again."""
        from scaling import run
        from scaling.data import prepare

        self.problems.append(f"{part.run.run_id}: {reason}")
        if not distributed.writer():
            return
        spec = part.spec(self.workdir, self.role)
        try:
            row = replace(run.describe(spec, prepare.prepare(spec.config.data)), reason=reason)
            files.write_json(spec.folder / "failure.json", {**asdict(row), "launch": self.launch})
        except (OSError, UserError):
            log.warning("warning: the failure of %s could not be written", spec.folder)
            self._unwritten.add(part.run.run_id)
        self.on_end(part, reason)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
