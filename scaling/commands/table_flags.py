"""Flags that fit, gain, design and conventions share: columns, rows, objective, bootstrap."""

from __future__ import annotations

import argparse

from scaling.commands import flag_types
from scaling.utils import parse
from scaling.utils.errors import UserError

COLUMNS = {
    "n_params": "model sizes",
    "tokens": "training tokens",
    "flops": "training FLOPs",
    "budget": "IsoFLOP groups; without it rows of equal FLOPs are grouped",
    "unique_tokens": "unique training tokens (data_constrained)",
    "tokens_per_param": "tokens per parameter (over_training)",
    "loss_se": "standard errors of the losses, which then weigh the rows",
    "seed": "seeds of the runs, numbers",
    "x": "the one input of power, power_offset, shifted_power, m4, broken",
    "error": "downstream error (loss_to_error)",
    "lr": "learning rates (lr_optimum, lr_law)",
    "batch": "batch sizes, tokens per step (batch_optimum, batch_law)",
}
UNNAMED = "?"  # --blocks without a column
OF_A_STUDY = ("config", "workdir")
OF_BOTH = ("table", "method", "format", "json", "wide")  # flags of a CSV and of a study


def check(args: argparse.Namespace) -> None:
    """Raise UserError at a number outside its range, before anything is loaded."""
    if args.bootstrap is not None and args.bootstrap < 0:
        raise UserError(f"--bootstrap={args.bootstrap}; must be 0 or more resamples")
    if getattr(args, "blocks", "") == UNNAMED:
        raise UserError("--blocks: name the column that tells runs apart, e.g. --blocks=run_name")
    if args.confidence is not None and not 0 < args.confidence < 1:
        raise UserError(f"--confidence={args.confidence:g}; must lie between 0 and 1, e.g. 0.9")


def check_uses(args: argparse.Namespace) -> None:
    """Raise UserError at a flag that has no effect on a CSV, or none on a study."""
    for name in sorted(args.changed - set(OF_BOTH)):
        if args.table and name in OF_A_STUDY:
            raise UserError(f"--{name} belongs to a study, not to a CSV; leave it out")
        if not args.table and name not in OF_A_STUDY:
            raise UserError(
                f"--{name} belongs to a CSV, `scaling {args.command} FILE.csv`; a study's table "
                "and its config.laws say the rest"
            )


def add_fit(parser: argparse.ArgumentParser) -> None:
    """Add columns, rows, objective and bootstrap: what every fit to a CSV takes."""
    add_columns(parser, COLUMNS)
    add_rows(parser)
    add_objective(parser)
    parser.add_argument(
        "--fixed", default="", metavar="NAME=VALUE,...", help="hold parameters at these values"
    )
    add_bootstrap(parser, 500)
    parser.add_argument(
        "--confidence",
        type=flag_types.number,
        default=0.9,
        metavar="SHARE",
        help="coverage of the intervals (0.9)",
    )
    add_method(parser)
    parser.add_argument(
        "--out", default="", metavar="FOLDER", help="folder for the law's JSON and pictures"
    )


def add_method(parser: argparse.ArgumentParser) -> None:
    """Add --method."""
    parser.add_argument(
        "--method", default="parabola", help="profile of isoflop: parabola or akima"
    )


def add_bootstrap(parser: argparse.ArgumentParser, default: int) -> None:
    """Add --bootstrap."""
    parser.add_argument(
        "--bootstrap",
        type=flag_types.whole_number,
        default=default,
        metavar="N",
        help=f"resamples ({default})",
    )


def add_columns(parser: argparse.ArgumentParser, names) -> None:
    """Add flags of these columns and of the loss. The other columns have none and stay empty."""
    for name in names:
        parser.add_argument(
            f"--{name}", default="", metavar="COLUMN", help=f"column of {COLUMNS[name]}"
        )
    parser.add_argument("--loss", default="loss", metavar="COLUMN", help="column of losses")
    parser.set_defaults(**{name: "" for name in COLUMNS if name not in names})


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how to read a file."""
    parser.add_argument(
        "--unit",
        default="",
        metavar="NAME=UNIT,...",
        help="units of columns: n_params=1e6, tokens=billions, flops=PFLOP-days, loss=perplexity; "
        "=1 says that a column is as it should be",
    )
    parser.add_argument(
        "--last_of",
        default="",
        metavar="COLUMN",
        help="keep the row of each run with the largest value here; a run is a file, in it a value "
        "of --blocks, else a size and seed",
    )
    parser.add_argument(
        "--decimal", default="", metavar="MARK", help="decimal mark: comma or point, if in doubt"
    )
    parser.add_argument(
        "--separator", default="", metavar="MARK", help="between cells: , ; | or tab, if in doubt"
    )


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the flags that read a file and choose rows."""
    add_reading(parser)
    parser.add_argument(
        "--where", default="", metavar="COLUMN=VALUE,...", help="keep only these rows"
    )
    parser.add_argument(
        "--drop_highest",
        type=flag_types.whole_number,
        default=0,
        metavar="K",
        help="leave out the K highest losses",
    )
    parser.add_argument(
        "--drop_above_flops",
        type=flag_types.bound,
        default=0.0,
        metavar="C",
        help="leave out runs above C FLOPs",
    )


def add_objective(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how a law is fitted."""
    parser.add_argument(
        "--objective",
        default="",
        help="huber (the default, except for forecasts of curves), least_squares, l1 or likelihood",
    )
    parser.add_argument(
        "--huber_delta",
        type=flag_types.number,
        default=0.0,
        metavar="X",
        help="threshold; 0 scales it to the residuals",
    )
    parser.add_argument(
        "--quantile",
        type=flag_types.number,
        default=0.5,
        metavar="SHARE",
        help="below 0.5: the best achievable loss",
    )
    flag_types.add_switch(parser, "--linear", "residuals of the loss, not its log")
    parser.add_argument(
        "--blocks",
        nargs="?",
        const=UNNAMED,
        default="",
        metavar="COLUMN",
        help="resample whole blocks: rows of one label in this column, or n_params",
    )


def points(text: str) -> list[tuple[float, ...]]:
    """Return "7e9:1.4e11,..." as pairs, "1e21,..." as single numbers. Raises UserError."""
    made = []
    for part in filter(None, text.split(",")):
        try:
            point = tuple(parse.number(value) for value in part.split(":"))
        except ValueError:
            point = ()
        if not point or any(value <= 0 for value in point):
            raise UserError(
                f"--at={text}: {part!r} is neither N:D, as in 7e9:1.4e11, nor one number; numbers "
                "are positive and finite"
            )
        made.append(point)
    return made


def computes(text: str) -> list[float]:
    """Return the computes of --at, "1e20,1e21". Raises UserError."""
    try:
        made = [parse.number(part) for part in filter(None, text.split(","))]
    except ValueError:
        raise UserError(f"--at={text}: not numbers of FLOPs, as in 1e20,1e21") from None
    if any(value <= 0 for value in made):
        raise UserError(f"--at={text}: FLOPs must be positive and finite")
    return made


def named_numbers(flag: str, text: str) -> dict[str, float]:
    """Return "A=1,B=2" as a dict. Raises UserError."""
    made = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            made[name.strip()] = parse.number(value)
        except ValueError:
            raise UserError(f"{flag}={text}: {part!r} is not NAME=NUMBER") from None
    return made


def names(text: str) -> list[str]:
    """Return "a, b" as ["a", "b"]."""
    return [name.strip() for name in text.split(",") if name.strip()]
