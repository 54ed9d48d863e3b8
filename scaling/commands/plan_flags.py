"""The flags of `scaling plan` besides a config and a workdir, checked: each UserError names its flag."""

from __future__ import annotations

import math

from scaling.utils.errors import UserError

SPEEDS = {
    "peak_flops": ("FLOP/s", "of one device, e.g. 989e12"),
    "memory_bandwidth": ("B/s", "that one device reads and writes, e.g. 3.35e12"),
    "bandwidth": ("B/s", "that one device sends to others, e.g. 450e9"),
}


def add(sub) -> None:
    sub.add_argument(
        "--measure",
        action="store_true",
        help="time a few real steps per size: time, disk and price of what --workdir has not yet done",
    )
    sub.add_argument(
        "--compile",
        action="store_true",
        help="compile each size ahead of time for its mesh: memory, FLOPs and collectives per device and step",
    )
    sub.add_argument(
        "--devices",
        default="",
        metavar="N",
        help="compile for N simulated devices of the CPU backend, so that larger machines can be planned",
    )
    for name, (unit, what) in SPEEDS.items():
        sub.add_argument(
            f"--{name}",
            default="",
            metavar=unit,
            help=f"{what}; without it that of this machine's devices where it is known",
        )


def devices(args) -> int:
    """The number of devices to simulate, 0 for those there are. Raises UserError."""
    if not args.devices:
        return 0
    if not args.compile:
        raise UserError(f"--devices={args.devices} belongs to --compile; give both")
    if args.measure:
        raise UserError(
            f"--devices={args.devices} simulates devices and --measure times real ones; give one of them"
        )
    if not args.devices.isdecimal() or int(args.devices) < 1:
        raise UserError(f"--devices={args.devices}: must be a whole number from 1")
    return int(args.devices)


def speeds(args) -> dict[str, float]:
    """The stated speeds of one device; 0 where none is stated. Raises UserError."""
    found = {}
    for name, (unit, what) in SPEEDS.items():
        text = getattr(args, name)
        try:
            value = float(text or 0)
        except ValueError:
            value = -1.0
        if text and not (0 < value < math.inf):
            raise UserError(f"--{name}={text}: must be a positive number of {unit} {what}")
        if text and not args.compile:
            raise UserError(f"--{name}={text} belongs to --compile; give both")
        found[name] = value
    return found
