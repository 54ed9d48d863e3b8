"""The `scaling` command: run one of `scaling.commands`, print its error, return its exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from scaling.utils import huge_pages, signals
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_PREEMPTED, Preempted, UserError, one_line

# Commands that train, or time steps.
TIMED = ("train", "tune", "sweep", "work", "holdout", "curves", "plan")
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
    _open_streams()
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
        _discard_output()
        seconds = STOPPED_SECONDS if code == EXIT_PREEMPTED else EXIT_SECONDS
        signals.end_within(seconds, code if isinstance(code, int) else code is not None)


def _run(argv: list[str]) -> int:
    """Run a command line, tell the other processes of a run that this one ends, as planned."""
    code = _command(argv)
    signals.say_end(code)
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
        _tell(f"error: {one_line(error)}")
        return EXIT_BAD_INPUT
    except Preempted as stop:
        signals.report(str(stop))
        return EXIT_PREEMPTED
    except KeyboardInterrupt:
        _tell("stopped; the same command continues")
        return EXIT_PREEMPTED
    except MemoryError as error:
        _tell(f"error: the memory of this machine is used up: {one_line(error)}")
        return EXIT_BAD_INPUT
    except OSError as error:  # of the output, or of a file that no command refuses by itself
        return _failed(error)


def _open_streams() -> None:
    """Discard the output of a process that was started without one, and escape odd characters."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _failed(error: OSError) -> int:
    """Print an error of the operating system on one line; nothing after `scaling report | head`.

    Raises BrokenPipeError if the broken pipe is not that of stdout or stderr.
    """
    if not isinstance(error, BrokenPipeError):
        _tell(f"error: {error.filename or 'the output'}: {one_line(error.strerror or str(error))}")
        return EXIT_BAD_INPUT
    import select

    broken = select.poll()
    for stream in (sys.stdout, sys.stderr):
        broken.register(stream.fileno(), select.POLLERR)
    if not broken.poll(0):
        raise BrokenPipeError("a pipe between processes broke") from error
    return 0


def _discard_output() -> None:
    """Drop what a reader of stdout did not want, so that the interpreter does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(line: str) -> None:
    """Print a line to stderr, which the reader may have closed."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)
