"""`scaling fit`: fit the laws of a study, or a law to any CSV."""

from __future__ import annotations

import argparse

from scaling.commands import output, table_flags, workdir_flags

HELP = "fit the laws and write the curves, of a workdir or of any CSV"
EXAMPLE = """\
scaling fit --workdir=results/quickstart
scaling fit runs.csv --n_params=N --tokens=D --form=chinchilla --at=7e9:1.4e11"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `fit`. All but --config, --workdir and the formats belong to a CSV."""
    workdir_flags.add(parser, stored=True)
    parser.add_argument(
        "table",
        nargs="*",
        default="",
        metavar="CSV",
        help="a table of runs, several, a pattern such as 'runs/*.csv', or a workdir",
    )
    parser.add_argument(
        "--form",
        default="chinchilla",
        help="combined (backtest-weighted, needs --at), isoflop, varpro, lr_optimum or "
        "batch_optimum (tuned in groups of runs), or a law: chinchilla, chinchilla_tied, kaplan, "
        "over_training, data_constrained, data_constrained_one_size, level, power, power_offset, "
        "shifted_power, m4, broken, loss_to_error, lr_law, batch_law (of optima)",
    )
    parser.add_argument(
        "--of",
        default="n_params,tokens",
        metavar="NAME,...",
        help="inputs of a law of lr or batch: n_params,tokens or one of n_params, tokens, flops",
    )
    parser.add_argument(
        "--at",
        default="",
        metavar="N:D,...",
        help="predict new runs of N parameters and D tokens, or X,... for a law of x",
    )
    table_flags.add_fit(parser)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Fit and print the laws. Return 3 if rows or results were left out."""
    table_flags.check(args)
    table_flags.check_uses(args)
    if args.table:
        workdir_flags.refuse_overrides(args)

        from scaling.commands import fit_csv

        return fit_csv.run(args)
    given = workdir_flags.load_if_given(args)

    from scaling.commands import study_output
    from scaling.study import pipeline

    problems: list[str] = []
    with workdir_flags.opened(args) as workdir:
        config = workdir_flags.stored_config(given, workdir)
        written = pipeline.fit_and_write(config, workdir, problems)
        problems += pipeline.without_result(config, workdir)
        output.show(args, study_output.of(written, workdir))
    return output.warn(problems)
