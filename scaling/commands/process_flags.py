"""Flags of several processes that train each run together: `train`, `sweep`, `work`."""

from __future__ import annotations

from scaling.commands import flag_types


def add(parser) -> None:
    """Add --coordinator, --processes and --process."""
    parser.add_argument(
        "--coordinator",
        default="",
        metavar="HOST:PORT",
        help="several processes train each run together: the address at which process 0 listens, "
        "the same on all. Without these three flags $SCALING_COORDINATOR, $SCALING_PROCESSES and "
        "$SCALING_PROCESS_ID count, or the tasks of one srun",
    )
    parser.add_argument(
        "--processes",
        type=flag_types.or_unset(flag_types.whole_number),
        metavar="N",
        help="number of processes; 1 works alone under srun",
    )
    parser.add_argument(
        "--process",
        type=flag_types.or_unset(flag_types.whole_number),
        metavar="K",
        help="this process, from 0",
    )


def rank(args):
    """Return the process's rank among several, None if it is alone. Raises UserError."""
    from scaling.parallel import multiprocess

    count, number = ("" if n is None else str(n) for n in (args.processes, args.process))
    return multiprocess.find_rank(args.coordinator, count, number)
