"""Claim jobs of a sweep and train them until none is left.

Any number of workers on any number of machines may serve one workdir, which holds their results.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from scaling import results
from scaling.parallel import multiprocess
from scaling.sweep.execute.jobs import Job, JobRun
from scaling.sweep.plan.halving import Halving, HalvingDecision
from scaling.sweep.shared import workdir_url
from scaling.sweep.shared.claims import Claim, Claims
from scaling.utils import files, signals
from scaling.utils.errors import LostClaim, Preempted, UserError, one_line

log = logging.getLogger("scaling")

# Deaths of workers that train a run, without a new checkpoint in between, before the run fails.
MAX_DEATHS = 3
# Messages of process 0 to the others, which else are a job's number.
END, WAIT, STOPPED = -1, -2, -3
POLL_SECONDS = 0.5  # between checks of jobs that others hold or that wait for their trunk


class Worker:
    """One process that works on one workdir.

    It calls `on_progress(job, tokens)` with the tokens it trained, and `on_end(job_run, result or
    reason)` for every run that ended here.
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
        on_end: Callable[[JobRun, results.RunResult | str], None] = lambda job_run, ended: None,
    ):
        self.workdir, self.launch, self.claims, self.role = workdir, launch, claims, role
        self.halving = halving or Halving(workdir, [])
        self.store = workdir_url.open_workdir(workdir)
        self.on_progress, self.on_end = on_progress, on_end
        self.problems: list[str] = []
        self.reported: set[str] = set()  # runs with a line in `problems`
        self._unwritten: set[str] = set()  # failures that could not be written

    def work(self, jobs: Sequence[Job]) -> None:
        """Train jobs until every job has ended, here or elsewhere.

        If several processes train each run together, process 0 takes the claims and broadcasts
        the index of the next job; `jobs` must be equal on all of them.

        Raises UserError if claims cannot be written, and Preempted after a signal, once the runs
        are saved.
        """
        if not multiprocess.writer():
            return self._follow(jobs)
        end = END
        try:
            self._lead(jobs)
        except Preempted:
            end = STOPPED
            raise
        finally:
            multiprocess.broadcast_from_writer(end)

    def _follow(self, jobs: Sequence[Job]) -> None:
        preempted = Preempted("a signal to process 0")
        while (k := multiprocess.broadcast_from_writer(END)) not in (END, STOPPED):
            if k != WAIT:
                try:
                    self._train(jobs[k], lambda: None)
                except Preempted as error:  # process 0 raises it, too, and ends the loop
                    preempted = error
        if k == STOPPED:
            raise preempted

    def _lead(self, jobs: Sequence[Job]) -> None:
        number = {id(job): k for k, job in enumerate(jobs)}
        open_jobs = list(jobs)
        workdir_url.retry(self.store.push_ended)
        for job_run in (
            job_run for job in jobs for job_run in job if self._failed(self._folder(job_run))
        ):
            self._report(
                job_run.run_id,
                "failed in this launch before; another `scaling sweep` tries it again",
            )
        while open_jobs:
            trained = False
            workdir_url.retry(self.store.pull_results)
            for job in list(open_jobs):
                signals.check()
                if all(self._ended(job_run.run_id) for job_run in job):
                    open_jobs.remove(job)
                elif self._ready(job) and self._try(job, number[id(job)]):
                    trained = True
                    break  # look again from the earliest open job
            if open_jobs and not trained:
                multiprocess.broadcast_from_writer(WAIT)
                signals.pause(max(POLL_SECONDS, self.store.poll_seconds))

    def _folder(self, job_run: JobRun) -> Path:
        return self.workdir / "runs" / job_run.run_id

    def _ended(self, run_id: str) -> bool:
        """Return whether the run has a result, or failed in this launch."""
        ended = (self.workdir / "runs" / run_id / "result.json").exists()
        return ended or self._failed_here(run_id)

    def _failed_here(self, run_id: str) -> bool:
        return run_id in self._unwritten or self._failed(self.workdir / "runs" / run_id)

    def _saved(self, run_id: str) -> int:
        """Return the step of the run's newest checkpoint, 0 without one."""
        names = (p.name for p in (self.workdir / "runs" / run_id / "checkpoints").glob("*"))
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _failed(self, folder: Path) -> bool:
        try:
            return files.read_json(folder / "failure.json").get("launch") == self.launch
        except UserError:
            return False

    def _decision(self, job_run: JobRun) -> HalvingDecision:
        return workdir_url.retry(self.halving.decide, job_run.run, self._failed_here)

    def _ready(self, job: Job) -> bool:
        """Return whether the job can start.

        Its trunks must have reached the fork or have ended, and successive halving must not wait
        for other runs.
        """
        for job_run in job:
            if self._decision(job_run).waits:
                return False
            if job_run.trunk:
                trunk = self.workdir / "runs" / job_run.trunk
                ended = self._ended(job_run.trunk)
                if not ended and not workdir_url.retry(self.store.has, trunk, job_run.fork_step):
                    return False
        return True

    def _try(self, job: Job, number: int) -> bool:
        """Claim all runs of the job and train them; return False if another worker has one.

        `number` is the job's index in the list of all processes.
        """
        with contextlib.ExitStack() as stack:
            claims: list[Claim] = []
            for job_run in sorted(job, key=lambda r: r.run_id):
                claim = self.claims.take(job_run.run_id, self.launch)
                if claim is None:
                    return False
                claims.append(stack.enter_context(claim))
            workdir_url.retry(self.store.pull_results)
            if all(self._ended(job_run.run_id) for job_run in job):  # meanwhile, elsewhere
                return True
            deaths = max(claim.attempts for claim in claims)
            if deaths >= MAX_DEATHS:
                reason = f"{deaths} workers died while training it (out of memory?)"
                for job_run in job:
                    if not self._ended(job_run.run_id):
                        self._fail(job_run, reason)
                return True

            first_saved = {c.name: self._saved(c.name) for c in claims if c.attempts}

            def check() -> None:
                lost_claims = [claim.name for claim in claims if claim.lost()]
                if lost_claims:
                    raise LostClaim(f"{lost_claims[0]}: another worker took it over")
                for claim in claims:
                    if claim.attempts and self._saved(claim.name) > first_saved[claim.name]:
                        with contextlib.suppress(OSError):  # the next checkpoint tries again
                            claim.forgive()
                workdir_url.push_if_reachable(self.store, map(self._folder, job))

            self._pull(job)
            multiprocess.broadcast_from_writer(number)
            self._train(job, check)
        return True

    def _pull(self, job: Job) -> None:
        """Download the job's runs, and the checkpoints that they fork from, from other machines."""
        for job_run in job:
            workdir_url.retry(self.store.pull, self._folder(job_run))
            for step in job_run.merges:
                workdir_url.retry(self.store.pull, self._folder(job_run), step)
            if job_run.trunk:
                trunk = self.workdir / "runs" / job_run.trunk
                for step in job_run.needs:
                    workdir_url.retry(self.store.pull, trunk, step)

    def _train(self, job: Job, check: Callable[[], None]) -> None:
        """Train a job, or stop it if successive halving does, and report how its runs ended."""
        from scaling.training import loop

        decisions = [self._decision(job_run) for job_run in job]
        if decisions[0].waits:  # under successive halving a job has one run
            return
        specs = [
            replace(job_run.spec(self.workdir, self.role), until=decision.until)
            for job_run, decision in zip(job, decisions, strict=True)
        ]
        try:
            if decisions[0].stopped:
                check()
                outcomes: list[loop.Outcome] = [self._stop(job[0], decisions[0])]
            else:
                outcomes = loop.train_runs(
                    specs,
                    on_progress=lambda tokens: self.on_progress(job, tokens),
                    before_writing=check,
                )
        except Preempted:
            # suppressed: the same again, if the store does not answer
            with signals.saving(), contextlib.suppress(Preempted):
                for spec in specs:
                    workdir_url.retry(self.store.push, spec.folder)
            raise
        except LostClaim as error:
            log.warning("warning: %s", error)
            return
        except Exception as error:  # an error ends this job only
            _exit_if_only_here(error)
            log.debug("job failed", exc_info=True)
            if len(job) > 1:
                log.warning(
                    "warning: a pack of %d runs failed (%s); training them one by one",
                    *(len(job), _line(error)),
                )
                for job_run in job:
                    self._train((job_run,), check)
                return
            outcomes = [error]
        self._record(job, outcomes)

    def _record(self, job: Job, outcomes: Sequence) -> None:
        """Upload and report how each run ended: a result, an exception, or None for a pause."""
        for job_run, outcome in zip(job, outcomes, strict=True):
            if isinstance(outcome, results.DamagedResult):
                self.problems.append(f"{outcome}; {results.SKIPPED}")
            elif isinstance(outcome, Exception):
                _exit_if_only_here(outcome)
                log.debug("run failed", exc_info=outcome)
                self._fail(job_run, _line(outcome))
            else:
                workdir_url.retry(self.store.push, self._folder(job_run))
                if outcome is None:  # paused at a rung, from which any worker may resume it
                    continue
                if outcome.status not in results.AS_PLANNED:
                    self._report(outcome.run_id, f"{outcome.status}, {outcome.reason}")
                self.on_end(job_run, outcome)

    def _report(self, run_id: str, problem: str) -> None:
        """Add a line on a run to `problems`."""
        self.problems.append(f"{run_id}: {problem}")
        self.reported.add(run_id)

    def _stop(self, job_run: JobRun, decision: HalvingDecision) -> results.RunResult:
        """Write the result of a run that successive halving stopped."""
        from scaling.fields import registry as fields
        from scaling.training import spec as run_spec

        spec = job_run.spec(self.workdir, self.role)
        untrained = run_spec.describe(spec, fields.of(spec.config.data.field).prepare(spec.config))
        row = self.halving.row(untrained, job_run.run, decision)
        results.write(spec.folder / "result.json", row)
        (spec.folder / "failure.json").unlink(missing_ok=True)
        return row

    def _fail(self, job_run: JobRun, reason: str) -> None:
        """Write the run's row with its reason; it stays until a later launch tries again."""
        from scaling.fields import registry as fields
        from scaling.training import spec as run_spec

        self._report(job_run.run_id, reason)
        if not multiprocess.writer():
            return
        spec = job_run.spec(self.workdir, self.role)
        try:
            row = replace(
                run_spec.describe(spec, fields.of(spec.config.data.field).prepare(spec.config)),
                reason=reason,
            )
            files.write_json(
                spec.folder / "failure.json",
                {**results.to_json(row), "launch": self.launch},
                seal=True,
            )
        except (OSError, UserError):
            log.warning("warning: the failure of %s cannot be written: %s", spec.folder, reason)
            self._unwritten.add(job_run.run_id)
        workdir_url.retry(self.store.push, spec.folder)
        self.on_end(job_run, reason)


def _exit_if_only_here(error: Exception) -> None:
    """Exit one of several processes that train a run together if the others lack its error.

    Such an error is, for example, a barrier that a killed process never reached. The run did not
    fail, and all processes restart it.
    """
    if multiprocess.count() > 1 and not isinstance(error, UserError):
        multiprocess.exit_process(error)


def _line(error: BaseException) -> str:
    prefix = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return one_line(f"{prefix}{error}", 500)
