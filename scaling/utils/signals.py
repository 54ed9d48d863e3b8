"""Signals that ask a process to save and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

# Signals within this time are one: Linux tells a worker of its launcher's death once for every thread of
# the launcher that the worker was handed on to while it died (prctl(2), PR_SET_PDEATHSIG).
ONE_SIGNAL_SECONDS = 1.0


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag that the loop asks; a later signal acts at once."""

    def __init__(self):
        self.caught = ""
        self._since = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopSignal]:
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may install handlers
            return
        old = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

        def restore():
            for s, handler in old.items():
                signal.signal(s, handler)

        def handle(number, frame):
            if not self.caught:
                self.caught, self._since = signal.Signals(number).name, time.monotonic()
            elif time.monotonic() - self._since >= ONE_SIGNAL_SECONDS:
                restore()
                signal.raise_signal(number)

        for s in old:
            signal.signal(s, handle)
        try:
            yield self
        finally:
            restore()
