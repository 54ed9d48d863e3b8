"""Test stop signals: the first sets a flag, its echoes are ignored, a later one acts at once."""

from __future__ import annotations

import signal
import time

import pytest

from scaling.utils import signals


@pytest.fixture
def interrupting():
    """Restore Python's own handler of SIGINT, which an earlier test may have changed."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def test_echoes_are_one_signal_and_a_later_one_acts_at_once(monkeypatch, interrupting):
    monkeypatch.setattr(signals, "ONE_SIGNAL_SECONDS", 0.2)
    echoed = False
    with pytest.raises(KeyboardInterrupt), signals.listening():
        assert not signals.caught()
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        echoed = signals.caught() == "SIGINT"
        time.sleep(0.25)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the later signal did not act")
    assert echoed, "an echo acted"
