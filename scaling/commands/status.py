"""`scaling status`: show how far a sweep is; write its events for TensorBoard."""

from __future__ import annotations

import argparse
from pathlib import Path

from scaling.commands import flag_types, output, workdir_flags
from scaling.utils import signals
from scaling.utils.errors import EXIT_INCOMPLETE, Preempted, UserError

HELP = "runs by state, loss so far, FLOPs spent and left, time to go"
EXAMPLE = """\
scaling status --workdir=results/quickstart
scaling status --workdir=results/quickstart --watch"""
SECONDS = "2"  # between two looks of --watch


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `status`."""
    workdir_flags.add(parser, stored=True)
    parser.add_argument(
        "--watch",
        nargs="?",
        const=SECONDS,
        metavar="SECONDS",
        help=f"look again every so many seconds ({SECONDS}) until nothing is left to train; Ctrl-C "
        "ends it",
    )
    flag_types.add_switch(parser, "--all", "every run, in the plan's order")
    flag_types.add_switch(
        parser,
        "--tensorboard",
        "write losses and hyperparameters of all runs for `tensorboard --logdir WORKDIR`",
    )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the state of a sweep or of single runs. Return 3 if results are damaged.

    With --watch repeat until nothing is left to train, or Ctrl-C, which is its usual end. Raises
    UserError if the workdir holds no runs, or not those of --config.
    """
    interval, given = _interval(args.watch), workdir_flags.load_if_given(args)

    from scaling.commands import status_view
    from scaling.study import single_run
    from scaling.sweep.execute import jobs, progress
    from scaling.sweep.execute.snapshot import Snapshot
    from scaling.sweep.shared import workdir_url

    with workdir_flags.opened(args, push=False) as workdir:
        config, runs = single_run.runs_of(given, workdir)
        if args.tensorboard:
            return _tensorboard(args, workdir)
        planned = jobs.runs_by_id(runs, config.launch.share_trunks)
        look_at = progress.Progress(planned, workdir, config.launch.stale_seconds).look
        store = workdir_url.open_workdir(workdir)

        def look() -> Snapshot:
            now = look_at(workdir_url.retry(workdir_url.live_runs, store, config.launch))
            status_view.show(now, args, workdir, interval)
            return now

        try:
            now = look()
            while interval and not now.ended:
                signals.pause(interval)
                now = look()
        except Preempted:
            if not interval:
                raise
            signals.clear()
            print()
            return 0
        output.warn([] if interval else now.damaged)
        return EXIT_INCOMPLETE if now.damaged else 0


def _interval(watch: str | None) -> float:
    """Return the seconds between two looks, 0 for one look. Raises UserError."""
    if watch is None:
        return 0.0
    try:
        seconds = float(watch)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise UserError(f"--watch={watch}: not a number of seconds between 0.1 and 86400")
    return seconds


def _tensorboard(args: argparse.Namespace, workdir: Path) -> int:
    """Write the events of all runs and print the command that shows them."""
    from scaling import results
    from scaling.training import tensorboard

    runs, damaged = results.collect(workdir)
    tensorboard.write(workdir, runs)
    line = f"{len(runs)} runs in TensorBoard: tensorboard --logdir {workdir}"
    output.show_lines(args, "command", [line])
    return output.warn(damaged)
