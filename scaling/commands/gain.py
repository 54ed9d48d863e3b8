"""`scaling gain`: how much more compute the baseline needs to match a new family of runs."""

from __future__ import annotations

import argparse

from scaling.commands import output, table_flags, workdir_flags

HELP = "how much more compute one family of runs needs to match another, from CSVs"
EXAMPLE = """\
scaling gain old.csv new.csv --n_params=N --tokens=D
scaling gain runs.csv --family=recipe --baseline=old --tokens=D --at=1e20,1e21"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `gain`: two families in two CSVs, or in one with a column of names."""
    parser.add_argument("tables", nargs="+", metavar="CSV", help="BASELINE.csv NEW.csv, or one CSV")
    parser.add_argument("--family", default="", metavar="COLUMN", help="column that names families")
    parser.add_argument("--baseline", default="", metavar="VALUE", help="the baseline in --family")
    parser.add_argument(
        "--new", default="", metavar="VALUE", help="the other family, if --family has several"
    )
    parser.add_argument(
        "--form",
        default="chinchilla",
        help="law of either family: chinchilla, chinchilla_tied, kaplan, over_training, isoflop, "
        "or power_offset, power in --x=FLOPS where rows are compute-optimal",
    )
    parser.add_argument(
        "--at",
        default="",
        metavar="C,...",
        help="computes; without it those that both families have",
    )
    table_flags.add_fit(parser)
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Fit both families with one form and print their gain. Return 3 if rows were left out."""
    table_flags.check(args)
    workdir_flags.refuse_overrides(args)

    from scaling.commands import gain_csv

    return gain_csv.run(args)
