"""Signals: the first is a flag, its echoes are nothing, a later one acts at once."""

from __future__ import annotations

import signal
import time

import pytest

from scaling.utils import signals


@pytest.fixture
def interrupting():
    """SIGINT as Python begins with, whatever a test before, or the test's runner, made of it."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def test_echoes_are_one_signal_and_a_later_one_acts_at_once(monkeypatch, interrupting):
    monkeypatch.setattr(signals, "ONE_SIGNAL_SECONDS", 0.2)
    echoed = False
    with pytest.raises(KeyboardInterrupt), signals.StopSignal().listening() as stop:
        assert not stop.caught
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        echoed = stop.caught == "SIGINT"
        time.sleep(0.25)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the later signal did not act")
    assert echoed, "an echo acted"
