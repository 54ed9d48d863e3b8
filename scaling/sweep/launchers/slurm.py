"""Run workers as Slurm jobs, submitted through submitit as one array.

A job runs one worker as a child process. If Slurm stops the job (preemption, time limit, `scontrol
requeue`, `scancel`), the worker gets SIGTERM and saves. A requeued job resumes.

submitit's files below `<workdir>/slurm` name the jobs. So a restarted launcher finds the jobs of
an earlier one in the queue, watches them, and submits only the missing ones. A stopped launcher
leaves its jobs running, since they finish the sweep without it. If the workdir is a URL, the jobs
open it themselves. submitit's files are then in its scratch folder, which must be on a file system
that the nodes share ($SCALING_CACHE, else ~/.cache/scaling).
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Outcome, python_path, summary
from scaling.sweep.launchers.slurm_task import Task, outcome_path
from scaling.sweep.shared import workdir_url
from scaling.utils import files, signals
from scaling.utils.errors import Preempted, UserError

QUEUE_SECONDS = (1.0, 20.0)  # between queries of the queue: at first, and later
MAX_FAILURES = 30  # failed queries in a row before the launcher gives up
LAG_SECONDS = 5.0  # longest wait for the result of a job that has left the queue
# Codes of pending jobs that can never start. squeue is an outside program: its documented codes
# (squeue(1), JOB REASON CODES) are all that it reports.
IMPOSSIBLE = {
    "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints",
    "AccountNotAllowed", "InvalidAccount", "InvalidQOS",
}  # fmt: skip
SUBMITTED = "_submitted.pkl"  # the name of a job's file in submitit, after the job's id


def launch(
    options, workdir: Path, launch_id: str, workers: int, on_wait: Callable[[], None]
) -> list[str]:
    """Run workers as Slurm jobs, see `scaling.sweep.launchers.launch`. `options` is config.launch.

    Prints the states of the jobs to stderr when they change.
    """
    _require()
    folder, name = workdir / "slurm", f"scaling-{workdir.name}"
    jobs = {job for job in _queue(name) if (folder / f"{job}{SUBMITTED}").exists()}
    if jobs:
        print(f"slurm: found {_ids(jobs)} in the queue", file=sys.stderr, flush=True)
    with signals.listening():
        if len(jobs) < workers:
            signals.check()
            task = Task(workdir_url.open_workdir(workdir).name, launch_id)
            jobs.update(_submit(options, folder, name, task, workers - len(jobs)))
        outcomes = _watch(folder, name, jobs, on_wait)
        if caught := signals.caught():
            ids = _ids(jobs)
            note = f"; Slurm keeps {ids} running, `scancel {ids}` lets them save and stop"
            raise Preempted(f"{caught}{note if ids else ''}")
    return summary(outcomes)


def _require() -> None:
    """Raise UserError if Slurm's commands or submitit are missing."""
    for program in ("sbatch", "srun", "squeue"):
        if not shutil.which(program):
            raise UserError(
                f"config.launch.kind=slurm: this machine has no `{program}`; run the command on "
                "a login node of the cluster, or set --config.launch.kind=local"
            )
    # By default, the import of submitit configures logging and closes all other handlers.
    level = os.environ.get("SUBMITIT_LOG_LEVEL")
    os.environ["SUBMITIT_LOG_LEVEL"] = "NOCONFIG"
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError(
            "config.launch.kind=slurm needs the package submitit; pip install 'scaling[slurm]'"
        ) from error
    finally:  # jobs inherit the environment, and may log
        del os.environ["SUBMITIT_LOG_LEVEL"]
        if level is not None:
            os.environ["SUBMITIT_LOG_LEVEL"] = level


def _submit(options, folder: Path, name: str, task: Task, count: int) -> set[str]:
    """Submit `count` jobs; return their ids. Raises UserError if Slurm refuses them."""
    import submitit

    cores = options.cores
    executor = submitit.SlurmExecutor(folder, max_num_timeout=1_000_000)
    executor.update_parameters(
        job_name=name,
        time=options.minutes,
        nodes=options.nodes,
        ntasks_per_node=1,
        cpus_per_task=cores,
        gpus_per_node=options.gpus or None,
        mem=f"{options.memory_gb}GB" if options.memory_gb else None,
        partition=options.partition or None,
        account=options.account or None,
        # as `python -P` of the job itself, whose working folder is that of the launcher
        setup=[
            f"export PYTHONPATH={shlex.quote(python_path())} PYTHONSAFEPATH=1",
            *options.setup,
        ],
        # a worker needs at most a few dispatches and one checkpoint of time
        signal_delay_s=min(120, 15 * options.minutes),
        srun_args=[f"--cpus-per-task={cores}"],  # since 22.05 srun does not take sbatch's
        array_parallelism=count,
        stderr_to_stdout=True,
        wckey=None,
        additional_parameters={"requeue": True},
    )
    try:
        return {job.job_id for job in executor.submit_array([task] * count)}
    except Exception as error:  # submitit's errors have no narrower common class
        # The message quotes sbatch's whole output; show its last line that reports an error.
        message = str(error)
        lines = [line.strip() for line in message.splitlines() if "error" in line] or [message]
        raise UserError(f"Slurm refused the jobs ({lines[-1][:300]}); see config.launch") from error


def _watch(folder, name, jobs: set[str], on_wait) -> list[Outcome]:
    """Wait until no job of `jobs` is in the queue, or a signal; remove ended jobs from it.

    Once a worker found no work left, cancel the jobs that have not started.
    """
    outcomes: list[Outcome] = []
    lost_jobs: list[str] = []
    shown, failures, finished = "", 0, False
    period, longest = QUEUE_SECONDS
    while jobs and not signals.caught():
        try:
            queue, failures = _queue(name), 0
        except UserError:
            failures += 1  # for example, Slurm's controller restarts
            if failures == MAX_FAILURES:
                raise
            queue = dict.fromkeys(jobs, "unknown, squeue does not answer")
        states = _states([queue[job] for job in sorted(jobs) if job in queue])
        if states and states != shown:
            print(f"slurm: {states}", file=sys.stderr, flush=True)
            shown = states
        _refuse_impossible(queue, jobs)
        ended = sorted(jobs - set(queue))
        jobs.difference_update(ended)
        for job in ended:
            outcome = _outcome(folder, job)
            if outcome is not None:
                outcomes.append(outcome)
            elif not finished:
                lost_jobs.append(job)
        if not finished and any(outcome.done for outcome in outcomes):
            finished = True
            if jobs:
                subprocess.run(["scancel", "--state=PENDING", *sorted(jobs)], capture_output=True)
        deadline = time.time() + period
        while jobs and time.time() < deadline and not signals.caught():
            on_wait()
            time.sleep(POLL_SECONDS)
        period = min(longest, period * 1.3)
    if lost_jobs and not finished:  # otherwise other workers have done their work
        outcomes += [
            Outcome(
                [f"Slurm job {job} was cancelled or killed; the same command submits a new one"]
            )
            for job in lost_jobs
        ]
    return outcomes


def _refuse_impossible(queue: dict[str, str], jobs: set[str]) -> None:
    """Cancel the jobs and raise UserError if they request what this cluster never grants.

    Slurm accepts such jobs and keeps them pending, since an administrator might change the cluster.
    """
    for job in sorted(jobs & set(queue)):
        reason = queue[job].partition("(")[2].rstrip(")")
        if reason in IMPOSSIBLE:
            subprocess.run(["scancel", *sorted(jobs & set(queue))], capture_output=True)
            raise UserError(
                f"Slurm can never start the jobs ({reason}); lower config.launch.nodes, cores, "
                "gpus, memory_gb or minutes, or choose another config.launch.partition"
            )


def _queue(name: str) -> dict[str, str]:
    """Return the state and reason of this user's queued jobs of that name, by job id.

    Raises UserError if squeue fails.
    """
    command = ["squeue", "--me", "--noheader", "--array", f"--name={name}", "--format=%i|%T|%r"]
    query = subprocess.run(command, capture_output=True, text=True)
    if query.returncode != 0:
        raise UserError(
            f"squeue fails ({' '.join(query.stderr.split())[:300]}); submitted jobs continue "
            "without it, and the same command watches them again"
        )
    rows = (line.split("|") for line in query.stdout.splitlines())
    return {
        job: state if reason == "None" else f"{state} ({reason})" for job, state, reason in rows
    }


def _states(states: list[str]) -> str:
    """Return e.g. "2 RUNNING, 1 PENDING (Resources)"."""
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _ids(jobs: set[str]) -> str:
    """Return the jobs as arguments of scancel, whole arrays by their number."""
    return " ".join(sorted({job.split("_")[0] for job in jobs}, key=int))


def _outcome(folder: Path, job: str) -> Outcome | None:
    """Return the outcome of a job that has left the queue; None if it was cancelled or killed.

    Waits up to LAG_SECONDS, since a shared file system may lag. submitit's own results are not
    read: they are pickles, which may run any code.
    """
    path, deadline = outcome_path(folder, job), time.time() + LAG_SECONDS
    while not path.exists():
        if time.time() > deadline or signals.caught():
            failed = (folder / f"{job}_0_result.pkl").exists()
            log = folder / f"{job}_0_log.out"
            return Outcome([f"Slurm job {job} failed; see {log}"]) if failed else None
        time.sleep(POLL_SECONDS)
    try:
        with files.damage(path, "the same command submits a new job"):
            stored = files.read_json(path)
            texts = [*stored["problems"], stored["refusal"]]
            if not all(isinstance(text, str) for text in texts) or type(stored["done"]) is not bool:
                raise TypeError("not an outcome")
            return Outcome(list(stored["problems"]), stored["refusal"], stored["done"])
    except UserError as error:
        return Outcome([f"Slurm job {job}: {error}"])
