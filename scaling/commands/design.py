"""`scaling design`: propose the runs that narrow a prediction the most for the FLOPs they cost."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types, output, table_flags, workdir_flags

HELP = "which runs next: those that narrow a prediction the most for what they cost"
EXAMPLE = """\
scaling design --total_flops=1e21 --max_runs=24 --max_flops=3e20 --at=3e21 --careful
scaling design runs.csv --tokens=D --total_flops=3e20 --max_runs=6 --max_flops=1e20 --at=3e21"""
COLUMNS = ("n_params", "tokens", "flops", "loss_se", "seed")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `design`: limits, targets, and the runs of earlier rounds."""
    parser.add_argument(
        "table",
        nargs="?",
        default="",
        metavar="CSV",
        help="the runs of earlier rounds; without them published laws are the start",
    )
    parser.add_argument(
        "--forms",
        default="",
        metavar="NAME,...",
        help="laws to fit to the CSV and to be robust over: chinchilla (the default), "
        "chinchilla_tied, kaplan",
    )
    positive, count = flag_types.positive, flag_types.count
    for name, kind, metavar, text in (
        ("total_flops", positive, "C", "the most that the new runs may cost together"),
        ("max_runs", count, "R", "the most runs"),
        ("max_flops", positive, "C", "the most that one run may cost"),
        (
            "min_flops",
            positive,
            "C",
            "the least; without it max_flops / 3000, with --careful / 300",
        ),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    parser.add_argument(
        "--tokens_per_param",
        dest="ratios",
        default="",
        metavar="LOW:HIGH",
        help="range of D / N; without it 0.5:2000, with --careful 5:100",
    )
    flag_types.add_switch(
        parser,
        "--careful",
        "narrower limits: wider predictions, and better ones where the form is wrong",
    )
    parser.add_argument(
        "--at", default="", metavar="C,...", help="computes whose optimum is to be predicted"
    )
    parser.add_argument(
        "--quantity", default="loss", help="the target at --at: loss, or n_opt, the optimal size"
    )
    table_flags.add_columns(parser, COLUMNS)
    table_flags.add_rows(parser)
    table_flags.add_objective(parser)
    table_flags.add_bootstrap(parser, 100)
    parser.add_argument(
        "--out", default="", metavar="FOLDER", help="folder for design.json, .csv and the picture"
    )
    output.add_flags(parser)
    parser.set_defaults(fixed="", confidence=0.9)


def run(args: argparse.Namespace) -> int:
    """Print the proposal and what it promises. Return 3 if rows were left out."""
    table_flags.check(args)
    workdir_flags.refuse_overrides(args)

    from scaling.commands import design_runs

    return design_runs.run(args)
