"""Turn SIGTERM and SIGINT into a request to save and stop."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

# Signals within this time count as one. When a launcher dies, Linux may signal its worker once per
# thread of the launcher that becomes the worker's parent meanwhile (prctl(2), PR_SET_PDEATHSIG).
ONE_SIGNAL_SECONDS = 1.0


class StopSignal:
    """A flag that SIGTERM or SIGINT sets for a loop to read; a later signal acts at once."""

    def __init__(self):
        self.caught = ""
        self._since = 0.0

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopSignal]:
        """Install the handlers for the duration of a `with` block."""
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
