"""Limits of plan, sweep and curves: refuse the command if what is left to train costs more."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from scaling.commands import flag_types
from scaling.utils.errors import UserError

if TYPE_CHECKING:
    from scaling.study.budget import Limit

WHAT = "refuse if what is left to train costs more than this"


def add(parser: argparse.ArgumentParser) -> None:
    """Add --flops, --time and --usd, and --budget, the old spelling of all three."""
    parser.add_argument(
        "--flops", type=flag_types.positive, metavar="FLOPS", help=f"compute, e.g. 1e15: {WHAT}"
    )
    parser.add_argument(
        "--time",
        type=flag_types.seconds,
        metavar="DURATION",
        help="wall time of one worker, measured first, e.g. 90s, 10m, 2h or 3d: " + WHAT,
    )
    parser.add_argument(
        "--usd",
        "--cost",
        type=flag_types.positive,
        metavar="AMOUNT",
        help=f"money at config.launch.price_per_device_hour, e.g. 20: {WHAT}",
    )
    parser.add_argument("--budget", default="", help=argparse.SUPPRESS)


def limits(args: argparse.Namespace) -> list[Limit]:
    """Return the limits that the flags set. Raises UserError at a --budget that is no amount."""
    from scaling.study.budget import Limit, parse

    limits = [parse(args.budget)] if args.budget else []
    for kind, name, unit in (
        ("flops", "flops", ""),
        ("seconds", "time", "s"),
        ("money", "usd", ""),
    ):
        value = getattr(args, name)
        if value is not None:
            limits.append(Limit(kind, value, f"--{name}={value:g}{unit}"))
    return limits


def refuse_with_others(limits: list[Limit]) -> None:
    """Raise UserError where several processes train together: a limit is measured by one."""
    from scaling.parallel import multiprocess

    if limits and multiprocess.count() > 1:
        flag = limits[0].flag.partition("=")[0]
        raise UserError(
            f"{flag} is measured by one process; give it to `scaling plan`, and leave it out here"
        )
