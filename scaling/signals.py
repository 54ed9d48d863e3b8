"""Signals that ask a process to save and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag that the loop asks; a second signal acts at once."""

    def __init__(self):
        self.caught = ""

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopSignal]:
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may install handlers
            return
        old = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

        def handle(number, frame):
            self.caught = signal.Signals(number).name
            for s, handler in old.items():
                signal.signal(s, handler)

        for s in old:
            signal.signal(s, handle)
        try:
            yield self
        finally:
            for s, handler in old.items():
                signal.signal(s, handler)
