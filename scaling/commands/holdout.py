"""`scaling holdout`: seal the forecast, train the held-out run, compare."""

from __future__ import annotations

import argparse

from scaling.commands import output, workdir_flags

HELP = "seal the forecast, train the held-out run, compare"
EXAMPLE = """\
scaling holdout --workdir=results/quickstart
scaling holdout --config=quickstart --workdir=W --config.launch.kind=local"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `holdout`."""
    workdir_flags.add(parser, stored=True)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Train the held-out run and fit again. Return 3 if runs failed or results are damaged."""
    given = workdir_flags.load_if_given(args)

    from scaling.commands import study_output
    from scaling.study import pipeline
    from scaling.sweep.shared import sweep_json

    problems: list[str] = []
    with workdir_flags.opened(args) as workdir:
        config = sweep_json.read(workdir) if given is None else given
        pipeline.hold_out(config, workdir, problems)
        written = pipeline.fit_and_write(config, workdir, problems)
        output.show(args, study_output.of(written, workdir))
    return output.warn(problems)
