"""What the flags of `scaling design` ask for, checked: each UserError names its flag."""

from __future__ import annotations

import math

from scaling.commands import fit
from scaling.laws import api as laws
from scaling.laws import design
from scaling.utils.errors import UserError

USABLE = ("chinchilla", "chinchilla_tied", "kaplan")  # laws of N and D with an optimum
OF_A_TABLE = ("forms", "n_params", "tokens", "flops", "loss_se", "seed")
LIMITS = {False: design.WIDE, True: design.CAREFUL}  # of FLOPs and D / N, by --careful
REQUIRED = {
    "total_flops": "what the new runs may cost together, in FLOPs, e.g. --total_flops=1e21",
    "max_runs": "how many runs there may be, e.g. --max_runs=24",
    "max_flops": "what one run may cost at most, in FLOPs, e.g. --max_flops=3e20",
    "at": "the computes to predict, in FLOPs, e.g. --at=3e21,3e22",
}


def _number(args, name: str) -> float:
    text = getattr(args, name)
    if not text:
        raise UserError(f"--{name} is missing; say {REQUIRED[name]}")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or (name == "max_runs" and value != int(value)):
        what = "whole number" if name == "max_runs" else "positive number"
        raise UserError(f"--{name}={text}: not a {what}; as in 24 or 3e20")
    return value


def limits(args) -> dict:
    """The keywords of `propose` that say what is allowed."""
    total, runs, dearest = (_number(args, n) for n in ("total_flops", "max_runs", "max_flops"))
    share, ratios = LIMITS[args.careful]
    if dearest > total:
        raise UserError(
            f"--max_flops={args.max_flops}: no run can cost more than all of --total_flops={args.total_flops}; "
            "lower it"
        )
    if args.ratios:
        try:
            low, high = (float(part) for part in args.ratios.split(":"))
            if not math.isfinite(low + high):
                raise ValueError("endless")
            ratios = (low, high)
        except ValueError:
            raise UserError(
                f"--tokens_per_param={args.ratios}: not LOW:HIGH, as in 5:100"
            ) from None
    return {
        "total_flops": total,
        "max_runs": int(runs),
        "max_flops": dearest,
        "min_flops": _number(args, "min_flops") if args.min_flops else dearest / share,
        "tokens_per_param": ratios,
    }


def targets(args) -> list[laws.Target]:
    if not args.at:
        raise UserError(f"--at is missing; say {REQUIRED['at']}")
    if args.quantity not in design.QUANTITIES:
        raise UserError(f"--quantity={args.quantity}: choose one of {', '.join(design.QUANTITIES)}")
    return [laws.Target(c, args.quantity) for c in dict.fromkeys(fit.computes(args.at))]


def names(args) -> list[str]:
    """The forms; the flags of a table are refused where there is none."""
    found = [part.strip() for part in filter(None, (args.forms or USABLE[0]).split(","))]
    for name in found:
        if name not in USABLE:
            raise UserError(f"--forms={args.forms}: {name!r} is none of {', '.join(USABLE)}")
    if not args.table:
        for name in OF_A_TABLE:
            if getattr(args, name):
                raise UserError(
                    f"--{name} belongs to a table of runs; name its CSV, or leave the flag out"
                )
    return list(dict.fromkeys(found))
