"""The runs of every field with every architecture, once per run of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.common import make_once
from tests.fields.common import train_all


@pytest.fixture(scope="session")
def pairs_workdir(shared, cache) -> Path:
    """The workdir of the finished runs. Tests leave it alone."""
    workdir = shared / "pairs"
    make_once(workdir, lambda: train_all(workdir))
    return workdir
