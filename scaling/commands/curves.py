"""`scaling curves`: sweep, fit, holdout and report in one command."""

from __future__ import annotations

import argparse

from scaling.commands import limit_flags, output, workdir_flags

HELP = "sweep, fit, holdout and report in one; the same command continues where it stopped"
EXAMPLE = """\
scaling curves --config=quickstart --workdir=results/quickstart
scaling curves --workdir=results/quickstart --time=10m"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `curves`."""
    workdir_flags.add(parser, stored=True)
    limit_flags.add(parser)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train what is missing, fit, and print the summary. Return 3 if runs failed or diverged."""
    given, limits = workdir_flags.load_if_given(args), limit_flags.limits(args)

    from scaling.commands import study_output
    from scaling.study import budget, pipeline
    from scaling.sweep.shared import sweep_json

    problems: list[str] = []
    with workdir_flags.opened(args, create=given is not None) as workdir:
        config = sweep_json.read(workdir) if given is None else given
        limit_flags.refuse_with_others(limits)
        budget.check(config, limits, workdir, with_holdout=True)
        written = pipeline.curves(config, workdir, problems)
        output.show(args, study_output.of(written, workdir))
    return output.warn(problems)
