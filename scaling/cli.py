"""The `scaling` command: run one of `scaling.commands`, print its error, return its exit code."""

from __future__ import annotations

import os
import sys

from scaling.utils import huge_pages, signals
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_PREEMPTED, Preempted, UserError

TIMED = ("train", "sweep", "work", "holdout", "curves", "plan")  # those that train, or time steps
# Longest waits for threads and exit handlers of libraries at the end, and after a signal.
EXIT_SECONDS, STOPPED_SECONDS = 5.0, 1.0


def main(argv: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0, 2, 3 or 75 (docs/commands.md).

    Without `argv` the process is the command's own: its signals are handled from here to its end.
    """
    if argv is not None:
        with signals.listening():
            return _run(argv)
    signals.hold()
    if sys.argv[1:2] and sys.argv[1] in TIMED:
        huge_pages.restart()  # before imports that take seconds
    signals.install()
    code: int | str | None = 1
    try:
        code = _run(sys.argv[1:])
        return code
    except SystemExit as end:
        code = end.code
        raise
    finally:
        seconds = STOPPED_SECONDS if code == EXIT_PREEMPTED else EXIT_SECONDS
        signals.end_within(seconds, code if isinstance(code, int) else code is not None)


def _run(argv: list[str]) -> int:
    """Run a command line, tell the other processes of a run that this one ends, as planned."""
    code = _command(argv)
    signals.say_end()
    return code


def _command(argv: list[str]) -> int:
    import logging

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    try:
        from scaling.commands import command_line

        args = command_line.parse(argv)
        code = args.run(args)
        sys.stdout.flush()
        signals.check()
        return code
    except UserError as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Preempted as stop:
        signals.report(str(stop))
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return EXIT_PREEMPTED
    except BrokenPipeError:
        _end_quietly()
        return 0


def _end_quietly() -> None:
    """After `scaling report | head`: drop what the reader of stdout did not want.

    Raises BrokenPipeError if the broken pipe is another one.
    """
    import select

    stdout = select.poll()
    stdout.register(sys.stdout.fileno(), select.POLLERR)
    if not stdout.poll(0):
        raise BrokenPipeError("a pipe between processes broke")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
