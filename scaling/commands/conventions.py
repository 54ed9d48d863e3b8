"""`scaling conventions`: exponents of the optimum under several conventions of N and FLOPs."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, table_flags, workdir_flags

HELP = "exponents under every convention of N and FLOPs, of a workdir or of any CSV"
EXAMPLE = """\
scaling conventions --workdir=results/quickstart
scaling conventions runs.csv --n_params=N,N_total --tokens=D --flops=C,C_total --by=recipe"""
COLUMNS = {
    "n_params": "model sizes, one column or several; without it n_params",
    "tokens": "training tokens",
    "flops": "training FLOPs, one column or several; without it 6 N D",
    "budget": "IsoFLOP groups; without it rows of equal FLOPs are grouped",
    "loss": "losses; without it loss",
    "by": "labels that split the rows: one comparison per combination of their cells",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `conventions`. The columns, --bootstrap and --out belong to a CSV."""
    workdir_flags.add(parser, stored=True)
    parser.add_argument("table", nargs="?", default="", metavar="CSV", help="a table of runs")
    for name, text in COLUMNS.items():
        several = ",..." if name in ("n_params", "flops", "by") else ""
        parser.add_argument(f"--{name}", default="", metavar=f"COLUMN{several}", help=text)
    parser.add_argument(
        "--where", default="", metavar="COLUMN=VALUE,...", help="keep only these rows"
    )
    table_flags.add_reading(parser)
    table_flags.add_method(parser)
    parser.add_argument(
        "--bootstrap", type=flag_types.whole_number, metavar="N", help="resamples (500)"
    )
    parser.add_argument(
        "--confidence",
        type=flag_types.number,
        metavar="SHARE",
        help="coverage of the intervals (0.9)",
    )
    parser.add_argument(
        "--out", default="", metavar="FOLDER", help="folder for conventions.json, .csv, .svg, .png"
    )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Compare the conventions. Return 3 if rows or results were left out."""
    table_flags.check(args)
    table_flags.check_uses(args)
    if args.table:
        workdir_flags.refuse_overrides(args)

        from scaling.commands import convention_table

        return convention_table.of_table(args)
    given = workdir_flags.load_if_given(args)

    from scaling.commands import convention_table

    problems: list[str] = []
    with workdir_flags.opened(args) as workdir:
        config = workdir_flags.stored_config(given, workdir)
        convention_table.of_study(config, workdir, args, problems)
    return output.warn(problems)
