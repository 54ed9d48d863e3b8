"""The `scaling` command: run one of `scaling.commands`, print its error, return its exit code."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading

from scaling.commands import command_line
from scaling.utils import huge_pages
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_PREEMPTED, Preempted, UserError

TIMED = ("train", "sweep", "work", "holdout", "curves", "plan")  # those that train, or time steps


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2, 3 or 75 (docs/commands.md)."""
    if argv is None and sys.argv[1:2] and sys.argv[1] in TIMED:
        huge_pages.restart()  # before imports that take seconds
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    _raise_at_sigterm()
    try:
        args = command_line.parse(sys.argv[1:] if argv is None else argv)
        code = args.run(args)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Preempted as stop:
        print(f"stopped by {stop}; the same command continues", file=sys.stderr)
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return EXIT_PREEMPTED
    except BrokenPipeError:
        _end_quietly()
        return 0


def _raise_at_sigterm() -> None:
    """Make SIGTERM raise Preempted, so that it ends like Ctrl-C. A run in progress saves first."""

    def stop(number, frame):
        raise Preempted(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


def _end_quietly() -> None:
    """After `scaling report | head`: drop what the reader of stdout did not want.

    Raises BrokenPipeError if the broken pipe is another one.
    """
    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), select.POLLERR)
    if not stdout.poll(0):
        raise BrokenPipeError("a pipe between processes broke")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
