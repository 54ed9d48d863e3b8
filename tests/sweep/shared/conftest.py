"""Fixtures of the tests of claims."""

from __future__ import annotations

import pytest

from scaling.sweep.shared.claims import Claims
from tests.sweep.claiming import OWNER, start


@pytest.fixture
def all_released(monkeypatch):
    """Stop all renewals at the end of a test."""
    taken, take = [], Claims.take
    monkeypatch.setattr(Claims, "take", lambda *args: taken.append(take(*args)) or taken[-1])
    yield
    for claim in filter(None, taken):
        claim.release()


@pytest.fixture
def owner(tmp_path):
    """Start a process that holds the claim "run" and answers each line with `lost()`."""
    process = start(OWNER, tmp_path)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.communicate()
