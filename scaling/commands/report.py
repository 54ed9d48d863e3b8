"""`scaling report`: print the summary of what is on disk."""

from __future__ import annotations

import argparse

from scaling.commands import output, workdir_flags

HELP = "print the summary of a fitted study, or the results of the runs of `scaling train`"
EXAMPLE = """\
scaling report --workdir=results/quickstart
scaling report --workdir=results/quickstart --format=markdown"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `report`."""
    workdir_flags.add(parser, stored=True)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the summary. Return 3 if results of single runs are damaged."""
    workdir_flags.load_if_given(args)

    from scaling import results
    from scaling.commands import run_table, study_output
    from scaling.report import saved_summary
    from scaling.sweep.shared import sweep_json

    with workdir_flags.opened(args, push=False) as workdir:
        single = not (workdir / sweep_json.NAME).is_file() and results.run_names(workdir)
        if single and not (workdir / "summary.txt").is_file():
            runs, damaged = results.collect(workdir)
            text = [
                run_table.in_words(r)
                if r.status == "done"
                else f"{r.run_id} {r.status}: {r.reason}"
                for r in runs
            ] or ["no run has ended; `scaling status` shows how far they are"]
            output.show(args, run_table.of_runs(runs, text))
            return output.warn(damaged)
        output.show(args, study_output.of_summary(saved_summary.summary(workdir), workdir))
    return 0
