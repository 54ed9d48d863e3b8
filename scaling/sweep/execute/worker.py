"""Works through the jobs of a sweep, by claims, until none is left that it could do.

Any number of workers on any number of machines may work on one workdir: what is done stands in it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from scaling import results
from scaling.parallel import multiprocess
from scaling.sweep.execute.jobs import Job, JobRun
from scaling.sweep.plan.halving import Halving, HalvingDecision
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.claims import Claim, Claims
from scaling.utils import files
from scaling.utils.errors import LostClaim, Preempted, UserError, one_line

log = logging.getLogger("scaling")

DEATHS = (
    3  # workers that died over a run, with no new checkpoint between, before it counts as failed
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
        halving: Halving | None = None,
        role: str = "sweep",
        on_progress: Callable[[Job, int], None] = lambda job, tokens: None,
        on_end: Callable[[JobRun, results.RunResult | str], None] = lambda part, ended: None,
    ):
        self.workdir, self.launch, self.claims, self.role = workdir, launch, claims, role
        self.halving = halving or Halving(workdir, [])
        self.place = workdir_url.open_workdir(workdir)
        self.on_progress, self.on_end = on_progress, on_end
        self.problems: list[str] = []
        self._unwritten: set[str] = set()  # failures that found no room on disk

    def work(self, jobs: Sequence[Job]) -> None:
        """Until every job has ended, here or elsewhere.

        Where several processes train each run together, process 0 takes the claims and tells the others
        which of the equal `jobs` comes next.

        Raises UserError where claims cannot be written, and Preempted after a signal, all saved.
        """
        if not multiprocess.writer():
            return self._follow(jobs)
        try:
            self._lead(jobs)
        finally:
            multiprocess.broadcast_from_writer(END)

    def _follow(self, jobs: Sequence[Job]) -> None:
        stopped: Preempted | None = None
        while (k := multiprocess.broadcast_from_writer(END)) != END:
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
        workdir_url.retry(self.place.push_ended)
        self.problems += [
            f"{part.run_id}: failed in this launch before; another `scaling sweep` tries it again"
            for job in jobs
            for part in job
            if self._failed(self._folder(part))
        ]
        while left:
            taken = False
            workdir_url.retry(self.place.pull_results)
            for job in list(left):
                if all(self._ended(part.run.run_id) for part in job):
                    left.remove(job)
                elif self._ready(job) and self._try(job, number[id(job)]):
                    taken = True
                    break  # the earliest open job is the next one to look at
            if left and not taken:
                multiprocess.broadcast_from_writer(WAIT)
                time.sleep(max(POLL_SECONDS, self.place.poll_seconds))

    def _folder(self, part: JobRun) -> Path:
        return self.workdir / "runs" / part.run.run_id

    def _ended(self, run_id: str) -> bool:
        """Whether the run has a result, or failed in this launch."""
        ended = (self.workdir / "runs" / run_id / "result.json").exists()
        return ended or self._failed_here(run_id)

    def _failed_here(self, run_id: str) -> bool:
        return run_id in self._unwritten or self._failed(self.workdir / "runs" / run_id)

    def _saved(self, run_id: str) -> int:
        """Step of the run's newest checkpoint, 0 without one."""
        names = (p.name for p in (self.workdir / "runs" / run_id / "checkpoints").glob("*"))
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _failed(self, folder: Path) -> bool:
        try:
            return json.loads((folder / "failure.json").read_text()).get("launch") == self.launch
        except (OSError, ValueError, AttributeError):
            return False

    def _turn(self, part: JobRun) -> HalvingDecision:
        return workdir_url.retry(self.halving.turn, part.run, self._failed_here)

    def _ready(self, job: Job) -> bool:
        """Whether all trunks have come to where this job forks, or will never come, and no run of it
        waits for those that it is compared with."""
        for part in job:
            if self._turn(part).waits:
                return False
            if part.trunk:
                trunk = self.workdir / "runs" / part.trunk
                ended = self._ended(part.trunk)
                if not ended and not workdir_url.retry(self.place.has, trunk, part.fork_step):
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
            workdir_url.retry(self.place.pull_results)
            if all(self._ended(part.run.run_id) for part in job):  # between the look and the claim
                return True
            dead = max(claim.attempts for claim in claims)
            if dead >= DEATHS:
                for part in job:
                    if not self._ended(part.run_id):
                        self._fail(
                            part, f"{dead} workers died over it, one after another (out of memory?)"
                        )
                return True

            begun = {claim.name: self._saved(claim.name) for claim in claims if claim.attempts}

            def check() -> None:
                lost = [claim.name for claim in claims if claim.lost()]
                if lost:
                    raise LostClaim(f"{lost[0]}: another worker took it over")
                for claim in claims:
                    if claim.attempts and self._saved(claim.name) > begun[claim.name]:
                        with contextlib.suppress(OSError):  # the next checkpoint tries again
                            claim.forgive()
                workdir_url.push_if_reachable(self.place, map(self._folder, job))

            self._pull(job)
            multiprocess.broadcast_from_writer(number)
            self._train(job, check)
        return True

    def _pull(self, job: Job) -> None:
        """What other machines did of the job's runs, and where they fork from."""
        for part in job:
            workdir_url.retry(self.place.pull, self._folder(part))
            for step in part.merges:
                workdir_url.retry(self.place.pull, self._folder(part), step)
            if part.trunk:
                trunk = self.workdir / "runs" / part.trunk
                for step in part.needs:
                    workdir_url.retry(self.place.pull, trunk, step)

    def _train(self, job: Job, check: Callable[[], None]) -> None:
        from scaling.training import loop

        turns = [self._turn(part) for part in job]
        if turns[0].waits:  # runs that are compared are jobs of their own
            return
        specs = [
            replace(part.spec(self.workdir, self.role), until=turn.until)
            for part, turn in zip(job, turns, strict=True)
        ]
        try:
            if turns[0].stopped:
                check()
                outcomes: list[loop.Outcome] = [self._stop(job[0], turns[0])]
            else:
                outcomes = loop.train_runs(
                    specs,
                    on_progress=lambda tokens: self.on_progress(job, tokens),
                    before_writing=check,
                )
        except Preempted:
            for spec in specs:
                workdir_url.retry(self.place.push, spec.folder)
            raise
        except LostClaim as error:
            log.warning("warning: %s", error)
            return
        except Exception as error:  # whatever a run dies of, its siblings go on
            _leave_if_alone_with(error)
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
                _leave_if_alone_with(outcome)
                log.debug("run failed", exc_info=outcome)
                self._fail(part, _line(outcome))
            else:
                workdir_url.retry(self.place.push, self._folder(part))
                if outcome is None:  # paused at a rung, which any worker may go on from
                    continue
                if outcome.status not in results.AS_PLANNED:
                    self.problems.append(f"{outcome.run_id}: {outcome.status}, {outcome.reason}")
                self.on_end(part, outcome)

    def _stop(self, part: JobRun, turn: HalvingDecision) -> results.RunResult:
        """Write the result of a run that successive halving ended."""
        from scaling.fields import registry as fields
        from scaling.training import spec as run_spec

        spec = part.spec(self.workdir, self.role)
        described = run_spec.describe(spec, fields.of(spec.config.data.field).prepare(spec.config))
        row = self.halving.row(described, part.run, turn)
        results.write(spec.folder / "result.json", row)
        (spec.folder / "failure.json").unlink(missing_ok=True)
        return row

    def _fail(self, part: JobRun, reason: str) -> None:
        """The run's row with its reason, kept until a later launch tries it again."""
        from scaling.fields import registry as fields
        from scaling.training import spec as run_spec

        self.problems.append(f"{part.run.run_id}: {reason}")
        if not multiprocess.writer():
            return
        spec = part.spec(self.workdir, self.role)
        try:
            row = replace(
                run_spec.describe(spec, fields.of(spec.config.data.field).prepare(spec.config)),
                reason=reason,
            )
            files.write_json(
                spec.folder / "failure.json", {**results.to_json(row), "launch": self.launch}
            )
        except (OSError, UserError):
            log.warning("warning: %s failed, which cannot be written: %s", spec.folder, reason)
            self._unwritten.add(part.run.run_id)
        workdir_url.retry(self.place.push, spec.folder)
        self.on_end(part, reason)


def _leave_if_alone_with(error: Exception) -> None:
    """Of several processes that train a run together, end this one by an error that they do not share,
    such as a barrier that a killed one never came to: the run did not fail, all begin it again."""
    if multiprocess.count() > 1 and not isinstance(error, UserError):
        multiprocess.exit_process(error)


def _line(error: BaseException) -> str:
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return one_line(f"{kind}{error}", 500)
