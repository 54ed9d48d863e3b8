"""Workers as Slurm jobs, submitted through submitit as one array.

A job holds one worker as a child process. Where Slurm stops the job (preemption, its time limit, `scontrol
requeue`, `scancel`), the worker gets SIGTERM and saves; where the job is to come back, it is requeued and
goes on. submitit's files below `<workdir>/slurm` name the jobs, so that a launcher that comes back finds
those of an earlier one in the queue, watches them, and submits only what is missing. A launcher that is
stopped leaves its jobs alone: they need no launcher to finish the sweep. Where the workdir is a URL, they
open it themselves, and submitit's files lie in its scratch folder, which must be on a file system that the
nodes share ($SCALING_CACHE, else ~/.cache/scaling).
"""

from __future__ import annotations

import os
import pickle
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scaling.sweep.launchers.process import POLL_SECONDS, Outcome, python_path, summary
from scaling.sweep.launchers.slurm_task import Task
from scaling.sweep.shared import workdir_url
from scaling.utils.errors import Preempted, UserError
from scaling.utils.signals import StopSignal

QUEUE_SECONDS = (1.0, 20.0)  # between looks at the queue: at first, and after a while
SILENCE = 30  # looks at a queue that does not answer, in a row, until the launcher gives up
LAG_SECONDS = 5.0  # longest wait for the result of a job that has left the queue
# reasons of pending jobs that no waiting mends (squeue(1), JOB REASON CODES)
NEVER = {
    "PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints", "AccountNotAllowed",
    "InvalidAccount", "InvalidQOS",
}  # fmt: skip
SUBMITTED = "_submitted.pkl"  # how submitit calls a job's file, after the job's id


def launch(
    options, workdir: Path, launch_id: str, workers: int, on_wait: Callable[[], None]
) -> list[str]:
    """See `scaling.sweep.launchers.launch`. `options` is config.launch.

    Prints the states of the jobs to stderr as they change.
    """
    _require()
    folder, name = workdir / "slurm", f"scaling-{workdir.name}"
    waiting = {job for job in _queue(name) if (folder / f"{job}{SUBMITTED}").exists()}
    if waiting:
        print(f"slurm: found {_ids(waiting)} in the queue", file=sys.stderr, flush=True)
    with StopSignal().listening() as stop:
        if len(waiting) < workers and not stop.caught:
            task = Task(workdir_url.open_workdir(workdir).name, launch_id)
            waiting.update(_submit(options, folder, name, task, workers - len(waiting)))
        outcomes = _watch(folder, name, waiting, stop, on_wait)
    if stop.caught:
        ids = _ids(waiting)
        left = f"; Slurm goes on with {ids}, `scancel {ids}` has them save and stop" if ids else ""
        raise Preempted(f"{stop.caught}{left}")
    return summary(outcomes)


def _require() -> None:
    """Raises UserError where Slurm's commands or submitit are missing."""
    for program in ("sbatch", "srun", "squeue"):
        if not shutil.which(program):
            raise UserError(
                f"config.launch.kind=slurm: there is no `{program}` on this machine; run the command on "
                "a login node of the cluster, or set --config.launch.kind=local"
            )
    # Imported as it likes, submitit sets up logging anew and closes the handlers of everybody else.
    chosen = os.environ.get("SUBMITIT_LOG_LEVEL")
    os.environ["SUBMITIT_LOG_LEVEL"] = "NOCONFIG"
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError(
            "config.launch.kind=slurm needs the package submitit; pip install 'scaling[slurm]'"
        ) from error
    finally:  # jobs inherit the environment, and may log
        del os.environ["SUBMITIT_LOG_LEVEL"]
        if chosen is not None:
            os.environ["SUBMITIT_LOG_LEVEL"] = chosen


def _submit(options, folder: Path, name: str, task: Task, count: int) -> set[str]:
    """Submit `count` jobs; returns their ids. Raises UserError where Slurm refuses them."""
    import submitit

    cores = options.cores or 1
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
        setup=[f"export PYTHONPATH={shlex.quote(python_path())}", *options.setup],
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
        lines = [line.strip() for line in str(error).splitlines() if "error" in line] or [
            str(error)
        ]
        raise UserError(f"Slurm refused the jobs ({lines[-1][:300]}); see config.launch") from error


def _watch(folder, name, waiting: set[str], stop: StopSignal, on_wait) -> list[Outcome]:
    """Until no job of `waiting` is in the queue any more, or a signal came; takes out those that ended.

    Where one worker found nothing left to do, jobs that have not started are cancelled.
    """
    outcomes: list[Outcome] = []
    lost: list[str] = []
    shown, silent, finished = "", 0, False
    period, longest = QUEUE_SECONDS
    while waiting and not stop.caught:
        try:
            queue, silent = _queue(name), 0
        except UserError:
            silent += 1  # a controller that restarts, say
            if silent == SILENCE:
                raise
            queue = dict.fromkeys(waiting, "unknown, squeue does not answer")
        states = _states([queue[job] for job in sorted(waiting) if job in queue])
        if states and states != shown:
            print(f"slurm: {states}", file=sys.stderr, flush=True)
            shown = states
        _refuse_impossible(queue, waiting)
        ended = sorted(waiting - set(queue))
        waiting.difference_update(ended)
        for job in ended:
            outcome = _outcome(folder, job)
            if outcome is not None:
                outcomes.append(outcome)
            elif not finished:
                lost.append(job)
        if not finished and any(outcome.done for outcome in outcomes):
            finished = True
            if waiting:
                subprocess.run(
                    ["scancel", "--state=PENDING", *sorted(waiting)], capture_output=True
                )
        until = time.time() + period
        while waiting and time.time() < until and not stop.caught:
            on_wait()
            time.sleep(POLL_SECONDS)
        period = min(longest, period * 1.3)
    if lost and not finished:  # else other workers have done their work
        outcomes += [
            Outcome(
                [f"Slurm job {job} was cancelled or killed; the same command submits a new one"]
            )
            for job in lost
        ]
    return outcomes


def _refuse_impossible(queue: dict[str, str], waiting: set[str]) -> None:
    """Cancel and raise UserError where jobs ask for what this cluster will never give them.

    Slurm takes such jobs and leaves them pending, for an administrator might change the cluster.
    """
    for job in sorted(waiting & set(queue)):
        reason = queue[job].partition("(")[2].rstrip(")")
        if reason in NEVER:
            subprocess.run(["scancel", *sorted(waiting & set(queue))], capture_output=True)
            raise UserError(
                f"Slurm can never start the jobs ({reason}); ask for less in config.launch.nodes, cores, "
                "gpus, memory_gb or minutes, or name another config.launch.partition"
            )


def _queue(name: str) -> dict[str, str]:
    """State and its reason, by id, of this user's jobs of that name in the queue.

    Raises UserError where squeue fails.
    """
    command = ["squeue", "--me", "--noheader", "--array", f"--name={name}", "--format=%i|%T|%r"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(
            f"squeue fails ({' '.join(done.stderr.split())[:300]}); submitted jobs go on without it, and "
            "the same command watches them again"
        )
    rows = (line.split("|") for line in done.stdout.splitlines())
    return {job: state if why == "None" else f"{state} ({why})" for job, state, why in rows}


def _states(states: list[str]) -> str:
    """ "2 RUNNING, 1 PENDING (Resources)"."""
    return ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))


def _ids(jobs: set[str]) -> str:
    """The jobs as scancel takes them, whole arrays by their number."""
    return " ".join(sorted({job.split("_")[0] for job in jobs}, key=int))


def _outcome(folder: Path, job: str) -> Outcome | None:
    """What a job that has left the queue returned; None where it was cancelled or killed.

    Waits for it a little, since a shared file system may lag.
    """
    path, deadline = folder / f"{job}_0_result.pkl", time.time() + LAG_SECONDS
    while not path.exists():
        if time.time() > deadline:
            return None
        time.sleep(POLL_SECONDS)
    status, value = pickle.loads(path.read_bytes())
    if status == "success":
        return value
    return Outcome([f"Slurm job {job} failed: {value.strip().splitlines()[-1][:300]}"])
