"""`scaling sweep`: train all runs of a config's sweep and write the table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.commands import flag_types, limit_flags, output, process_flags, workdir_flags

if TYPE_CHECKING:
    from ml_collections import ConfigDict

HELP = "train all runs of the config's sweep and write the table"
EXAMPLE = """\
scaling sweep --config=quickstart --workdir=results/quickstart
scaling sweep --config=quickstart --workdir=W --time=2h --config.launch.workers=2"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `sweep`."""
    workdir_flags.add(parser)
    process_flags.add(parser)
    limit_flags.add(parser)
    flag_types.add_switch(
        parser,
        "--print_commands",
        "train nothing; print the command lines of workers for TPU VMs and other machines",
    )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train the sweep. Return 3 if runs failed or diverged."""
    config, limits = workdir_flags.load(args), limit_flags.limits(args)

    from scaling.commands import run_table
    from scaling.parallel import multiprocess
    from scaling.study import budget, pipeline
    from scaling.sweep.shared import workdir_url

    multiprocess.start(process_flags.rank(args), config)
    with workdir_flags.opened(args, create=True) as workdir:
        limit_flags.refuse_with_others(limits)
        budget.check(config, limits, workdir)
        if args.print_commands:
            return _print_commands(args, config, workdir)
        outcome = pipeline.train(config, workdir)
        if multiprocess.writer():
            name = workdir_url.open_workdir(workdir).name
            line = f"{len(outcome.results)} runs in {name}/runs.csv"
            output.show(args, run_table.of_runs(outcome.results, [line]))
    return output.warn(outcome.problems)


def _print_commands(args: argparse.Namespace, config: ConfigDict, workdir: Path) -> int:
    """Begin the sweep and print the commands of its workers."""
    from scaling.config import load as config_lib
    from scaling.sweep.execute import growth, runner
    from scaling.sweep.launchers import tpu
    from scaling.sweep.plan import planner
    from scaling.sweep.shared import workdir_url

    planner.plan(config)  # refuses a bad plan before anything is written
    growth.create_or_grow(config, workdir)
    runs = growth.planned(config, workdir)
    name = workdir_url.open_workdir(workdir).name
    shared = name if workdir_url.is_remote(name) else str(workdir.absolute())
    # A measurement of this machine says nothing about others: packs as the config says, else none.
    other_machines = config_lib.with_values(
        config, {"launch.pack": 1 if config.launch.pack == "auto" else config.launch.pack}
    )
    commands = tpu.commands(shared, runner.begin(runs, workdir, other_machines))
    output.show_lines(args, "command", list(commands))
    return 0
