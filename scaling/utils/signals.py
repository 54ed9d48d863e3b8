"""One stop flag for the whole process, set by SIGTERM, SIGINT and SIGHUP.

Code calls `check` before every job and every slow step. It raises `Preempted` once a signal came.
The handler itself raises nothing, since libraries swallow exceptions raised at random places.

A program also starts a thread that learns of signals while the main thread is in compiled code.
After GRACE_SECONDS the thread ends the process, but not inside `saving` blocks. A kill at any
moment leaves the files intact, so such an end loses only the work since the last checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from scaling.utils.errors import EXIT_PREEMPTED, Preempted

STOPPING: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # else the process runs under nohup
    STOPPING += (signal.SIGHUP,)  # of a terminal that was closed
GRACE_SECONDS = 5.0  # for the main thread to end by itself, without the time in `saving` blocks
GOODBYE_SECONDS = 1.0  # longest wait for the calls of `before_forced_end`
# Signals within this time count as one. When a launcher dies, Linux may signal its worker once per
# thread of the launcher that becomes the worker's parent meanwhile (prctl(2), PR_SET_PDEATHSIG).
ONE_SIGNAL_SECONDS = 1.0
PAUSE_SECONDS = 0.2  # between looks at the flag while waiting

_caught = ""  # the name of the first signal
_since = 0.0
_saving = 0  # nested `saving` blocks of the main thread
_handlers: dict[int, Any] | None = None  # that `_handle` replaced; None: not installed
_pipe = -1  # its write end wakes the thread; -1: a library's process, which is never ended here
_reported = False
_goodbyes: list[Callable[[int, str], None]] = []
_planned_ends: list[Callable[[int], None]] = []
_ending = threading.Lock()


def caught() -> str:
    """Return the name of the signal that came, "" without one."""
    return _caught


def check() -> None:
    """Raise Preempted once a signal came."""
    if _caught:
        raise Preempted(_caught)


def pause(seconds: float) -> None:
    """Sleep. Raises Preempted as soon as a signal came."""
    deadline = time.monotonic() + seconds
    check()
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(PAUSE_SECONDS, left))
        check()


def clear() -> None:
    """Forget the signal, for a command whose usual end it is."""
    global _caught
    _caught = ""


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """Let the main thread finish this block after a signal: one dispatch and one save."""
    global _saving
    _saving += 1
    try:
        yield
    finally:
        _saving -= 1


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Install the handlers for this block, if the process has not. A second SIGINT acts at once."""
    main = threading.current_thread() is threading.main_thread()
    if _handlers is not None or not main:  # only the main thread may install handlers
        yield
        return
    _install()
    try:
        yield
    finally:
        _restore()
        clear()


def hold() -> None:
    """Keep signals pending, over an exec too, until `install` is called."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def install() -> None:
    """Install the handlers for the rest of the process, with the thread that ends it in time."""
    global _pipe
    if _handlers is None:
        hold()  # the thread inherits the mask, so that the main thread takes the signals
        read_end, _pipe = os.pipe()
        os.set_blocking(_pipe, False)
        threading.Thread(target=_watch, args=(read_end,), name="signals", daemon=True).start()
        _install()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def reinstall() -> None:
    """Install the handlers again after a library replaced them."""
    if _handlers is not None:
        for number in STOPPING:
            signal.signal(number, _handle)
        if _pipe >= 0:
            signal.set_wakeup_fd(_pipe, warn_on_full_buffer=False)


def before_forced_end(call: Callable[[int, str], None]) -> None:
    """Call this with exit code and line before `end_now`, e.g. to release what others wait for."""
    if call not in _goodbyes:
        _goodbyes.append(call)


def before_planned_end(call: Callable[[int], None]) -> None:
    """Call this with the exit code when the command has ended by itself."""
    _planned_ends.append(call)


def say_end(code: int) -> None:
    """Make the calls of `before_planned_end`, once."""
    while _planned_ends:
        _planned_ends.pop()(code)


def end_within(seconds: float, code: int) -> None:
    """End the process with this code after `seconds`, whatever its threads and exit handlers do."""

    def end() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=end, name="end", daemon=True).start()


def _install() -> None:
    global _handlers
    _handlers = {number: signal.getsignal(number) for number in STOPPING}
    reinstall()


def _restore() -> None:
    global _handlers
    for number, handler in (_handlers or {}).items():
        signal.signal(number, handler)
    _handlers = None


def _handle(number: int, frame) -> None:
    """Set the flag. This may run between any two lines, so it must not raise or take a lock."""
    global _caught, _since
    if not _caught:
        _caught, _since = signal.Signals(number).name, time.monotonic()
    elif _pipe < 0 and _ends_at_once(number, _since):
        _restore()
        signal.raise_signal(number)


def _ends_at_once(number: int, since: float) -> bool:
    """Return whether this is a second Ctrl-C. A scheduler may repeat SIGTERM during a save."""
    return number == signal.SIGINT and time.monotonic() - since >= ONE_SIGNAL_SECONDS


def _watch(pipe: int) -> None:
    """Read the numbers of signals from a pipe. End the process when its time is over."""
    name, since, last, outside = "", 0.0, 0.0, 0.0  # `outside`: seconds without `saving` blocks
    while True:
        ready = select.select([pipe], [], [], PAUSE_SECONDS if name else None)[0]
        now = time.monotonic()
        for number in os.read(pipe, 64) if ready else b"":
            if number in STOPPING and not name:
                name, since, last = signal.Signals(number).name, now, now
            elif number in STOPPING and _ends_at_once(number, since):
                end_now(EXIT_PREEMPTED, stopped_line(name))
        if name:
            outside += 0.0 if _saving else now - last
            last = now
        if outside >= GRACE_SECONDS:
            end_now(EXIT_PREEMPTED, stopped_line(name))


def end_now(code: int, line: str) -> NoReturn:
    """End the process with a line on stderr, from any thread and whatever the others do."""
    _ending.acquire()  # for ever: another thread that comes here waits for the end
    end_within(GOODBYE_SECONDS, code)
    for call in _goodbyes:
        with contextlib.suppress(Exception):
            call(code, line)
    if not _reported:
        print(line, file=sys.stderr)
    for stream in (sys.stderr, sys.stdout):
        stream.flush()
    os._exit(code)


def report(reason: str) -> None:
    """Print the line of a stopped program. `end_now` prints no other one after it."""
    global _reported
    _reported = _pipe >= 0
    print(stopped_line(reason), file=sys.stderr, flush=True)


def stopped_line(reason: str) -> str:
    """Return the line of a program that a signal stopped."""
    return f"stopped by {reason}; the same command continues"
