"""`scaling train`: train the one run that a config describes."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, process_flags, workdir_flags
from scaling.utils.errors import EXIT_INCOMPLETE

HELP = "train the one run that the config describes"
EXAMPLE = """\
scaling train --config=llama --workdir=results/llama
scaling train --config=mini --workdir=W --config.train.tokens=1e5 --profile"""
DISPATCHES = 3  # that --profile traces


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `train`."""
    workdir_flags.add(parser)
    process_flags.add(parser)
    parser.add_argument(
        "--profile",
        nargs="?",
        const=DISPATCHES,
        type=flag_types.or_unset(flag_types.count),
        metavar="N",
        help=f"trace N steady dispatches ({DISPATCHES}) into the run's folder, for XProf and "
        "TensorBoard's profile tab",
    )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train the run and print its result. Return 3 if it diverged."""
    config = workdir_flags.load(args)
    import sys

    from scaling.commands import run_table
    from scaling.parallel import multiprocess
    from scaling.study import single_run
    from scaling.training import profiler

    multiprocess.start(process_flags.rank(args), config)
    with workdir_flags.opened(args, create=True) as workdir:
        result = single_run.train(config, workdir, args.profile or 0)
        done = result.status == "done"
        if not multiprocess.writer():
            return 0 if done else EXIT_INCOMPLETE
        trace = profiler.summary(single_run.folder_of(config, workdir)) if args.profile else ""
        if not done:
            print(f"error: {result.run_id} {result.status}: {result.reason}", file=sys.stderr)
        if done or output.format_of(args) != "text":
            output.show(args, run_table.of_run(result, [trace] if trace else []))
    return 0 if done else EXIT_INCOMPLETE
