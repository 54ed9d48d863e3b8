"""`scaling work`: take runs of a begun sweep until none is left."""

from __future__ import annotations

import argparse

from scaling.commands import output, process_flags, workdir_flags

HELP = "take runs of a begun sweep until none is left; launchers start this command"
EXAMPLE = """\
scaling work --workdir=results/quickstart
scaling work --workdir=s3://bucket/quickstart"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `work`."""
    workdir_flags.add_workdir(parser)
    parser.add_argument(
        "--launch", default="by-hand", metavar="ID", help="launch with the settings"
    )
    process_flags.add(parser)


def run(args: argparse.Namespace) -> int:
    """Train runs of the sweep. Return 3 if runs failed here."""
    workdir_flags.refuse_overrides(args)

    from scaling.sweep.execute import runner

    with workdir_flags.opened(args, push=False) as workdir:
        return output.warn(runner.work(workdir, args.launch, process_flags.rank(args)))
