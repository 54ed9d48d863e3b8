"""Check the flags of `scaling design`: each UserError names its flag."""

from __future__ import annotations

from scaling.commands import table_flags
from scaling.laws import api as laws
from scaling.laws import design
from scaling.utils import parse
from scaling.utils.errors import UserError

USABLE = ("chinchilla", "chinchilla_tied", "kaplan")  # laws of N and D with an optimum
TABLE_FLAGS = ("forms", "n_params", "tokens", "flops", "loss_se", "seed", "unit", "last_of")
LIMITS = {False: design.WIDE, True: design.CAREFUL}  # of FLOPs and D / N, by --careful
REQUIRED = {
    "total_flops": "the most that the runs may cost together, in FLOPs, e.g. --total_flops=1e21",
    "max_runs": "the most runs, e.g. --max_runs=24",
    "max_flops": "the most that one run may cost, in FLOPs, e.g. --max_flops=3e20",
    "at": "the computes to predict, in FLOPs, e.g. --at=3e21,3e22",
}


def _given(args, name: str):
    """Return the value of a flag that a design needs. Raises UserError without it."""
    value = getattr(args, name)
    if value is None:
        raise UserError(f"--{name} is missing; give {REQUIRED[name]}")
    return value


def limits(args) -> dict:
    """Return the limits as keywords of `propose`. Raises UserError."""
    total, runs, dearest = (_given(args, n) for n in ("total_flops", "max_runs", "max_flops"))
    share, ratios = LIMITS[args.careful]
    if dearest > total:
        raise UserError(
            f"--max_flops={dearest:g}: no run can cost more than all of --total_flops={total:g}; "
            "lower it"
        )
    if args.ratios:
        try:
            low, high = (parse.number(part) for part in args.ratios.split(":"))
            ratios = (low, high)
        except ValueError:
            raise UserError(
                f"--tokens_per_param={args.ratios}: not LOW:HIGH, as in 5:100"
            ) from None
    return {
        "total_flops": total,
        "max_runs": runs,
        "max_flops": dearest,
        "min_flops": args.min_flops or dearest / share,
        "tokens_per_param": ratios,
    }


def targets(args) -> list[laws.Target]:
    """Return the targets at the computes of --at. Raises UserError."""
    if not args.at:
        raise UserError(f"--at is missing; give {REQUIRED['at']}")
    if args.quantity not in design.QUANTITIES:
        raise UserError(f"--quantity={args.quantity}: choose one of {', '.join(design.QUANTITIES)}")
    return [laws.Target(c, args.quantity) for c in dict.fromkeys(table_flags.computes(args.at))]


def names(args) -> list[str]:
    """Return the names of the forms. Raises UserError at the flags of a table without one."""
    forms = table_flags.names(args.forms or USABLE[0])
    for name in forms:
        if name not in USABLE:
            raise UserError(f"--forms={args.forms}: {name!r} is none of {', '.join(USABLE)}")
    if not args.table:
        for name in TABLE_FLAGS:
            if getattr(args, name):
                raise UserError(
                    f"--{name} belongs to a table of runs; name its CSV, or leave the flag out"
                )
    return list(dict.fromkeys(forms))
