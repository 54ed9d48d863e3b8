"""`scaling plan`: print the runs of a config and what they cost."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from scaling.commands import flag_types, limit_flags, output, workdir_flags
from scaling.utils.errors import UserError

HELP = "print the runs of a config, their sizes, tokens, FLOPs and time; train nothing"
EXAMPLE = """\
scaling plan --config=quickstart --measure --time=2h --workdir=results/quickstart
scaling plan --config=one_gpu --device=h100 --count=8 --price=2.5"""
MOST_DEVICES = 4096  # jax makes so many in seconds, and twice as many in four times as long
SPEEDS = {
    "peak_flops": ("FLOP/s", "of one device, e.g. 989e12"),
    "memory_bandwidth": ("B/s", "that one device reads and writes, e.g. 3.35e12"),
    "bandwidth": ("B/s", "that one device sends to others, e.g. 450e9"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `plan`."""
    workdir_flags.add(parser)
    limit_flags.add(parser)
    flag_types.add_switch(
        parser,
        "--measure",
        "time a few real steps per size: time, disk and price of what --workdir has not done yet",
    )
    flag_types.add_switch(
        parser,
        "--compile",
        "compile each size ahead of time for its mesh: memory, FLOPs and collectives of a step",
    )
    parser.add_argument(
        "--devices",
        type=flag_types.or_unset(flag_types.count),
        metavar="N",
        help="compile for N simulated devices of the CPU backend, to plan larger machines",
    )
    for name, (unit, what) in SPEEDS.items():
        parser.add_argument(
            f"--{name}",
            type=flag_types.or_unset(flag_types.positive),
            metavar=unit,
            help=f"{what}; without it that of this machine's devices where it is known",
        )
    for name, convert, metavar, what in (
        ("device", str, "NAME", "plan for another device, e.g. h100; compile nothing"),
        ("count", flag_types.count, "N", "number of those devices; without it 1"),
        ("price", flag_types.positive, "MONEY", "of one device and hour, e.g. 2.5"),
        ("mfu", flag_types.positive, "SHARE", "of the peak; without it config.sweep.assumed_mfu"),
    ):
        parser.add_argument(
            f"--{name}", type=flag_types.or_unset(convert), metavar=metavar, help=what
        )
    output.add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the runs; measure or compile their programs; refuse what exceeds a limit."""
    from scaling.commands import plan_device

    if plan_device.wanted(args) or (args.peak_flops and not args.compile):
        return _run_elsewhere(args)
    _check(args)
    config, limits = workdir_flags.load(args), limit_flags.limits(args)

    from scaling.commands import plan_compile, plan_table
    from scaling.study import budget
    from scaling.sweep.execute import growth
    from scaling.utils import machine

    opened = workdir_flags.opened(args, create=True) if args.workdir else contextlib.nullcontext()
    with opened as workdir:
        if args.devices:
            plan_compile.simulate(args.devices)
        else:
            machine.start_jax(config.parallel.cpu_devices)
        runs = budget.planned(config, workdir)
        done = [growth.done(runs, workdir)] if workdir and (workdir / "runs").is_dir() else []
        speeds = {name: getattr(args, name) or 0.0 for name in SPEEDS}
        cost, refusal = None, ""

        def outputs() -> Iterator[output.Output]:
            nonlocal cost, refusal
            on = plan_table.here(config, speeds["peak_flops"])
            yield plan_table.output(config, runs, on, done)
            if args.compile:
                programs, refusal = plan_compile.output(runs, speeds, simulated=bool(args.devices))
                yield programs
            if args.measure and not refusal:
                cost = budget.forecast(config, runs, workdir)
                yield plan_table.cost(cost, workdir)

        output.show_each(args, outputs())
        if refusal:
            raise UserError(refusal)
        budget.check(config, limits, workdir, runs=runs, cost=cost)
    return 0


def _run_elsewhere(args: argparse.Namespace) -> int:
    """Print the runs, their time, price and memory on devices that are not here."""
    config, limits = workdir_flags.load(args), limit_flags.limits(args)

    from scaling.commands import plan_compile, plan_device, plan_table
    from scaling.study import budget

    at = plan_device.target(args, config)
    plan_compile.simulate(at.count)
    runs = budget.planned(config)
    table = plan_table.output(config, runs, plan_table.elsewhere(at))
    programs, refusal = plan_device.output(config, runs, at)
    output.show_each(args, (table, programs))
    if refusal:
        raise UserError(refusal)
    plan_device.check(at, limits, table.content["seconds"], table.content["flops"])
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise UserError at flags that do not belong together."""
    if args.devices and args.devices > MOST_DEVICES:
        raise UserError(f"--devices={args.devices}: no more than {MOST_DEVICES:,} are simulated")
    if args.devices and args.measure:
        raise UserError(
            f"--devices={args.devices} simulates devices and --measure times real ones; give one "
            "of them"
        )
    for name in ("devices", *SPEEDS):
        value = getattr(args, name)
        if value and not args.compile:
            raise UserError(f"--{name}={value:g} belongs to --compile; give both")
