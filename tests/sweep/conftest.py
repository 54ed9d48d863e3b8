"""One small sweep for all tests of launchers, and its table."""

from __future__ import annotations

import pytest

from scaling import config as config_lib
from tests.conftest import ROOT
from tests.sweep import launched


@pytest.fixture(scope="session")
def small_sweep():
    """Four runs of one size, each of 160 steps and 10 dispatches, about a second."""
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {
            "sweep.kind": "grid",
            "sweep.grid_keys": ("optim.lr",),
            "sweep.grid_values": ((1e-3, 2e-3, 4e-3, 8e-3),),
            "model.width": 16,
            "model.head_dim": 8,
            "model.mlp_width": 64,
            "train.tokens": 32 * 4 * 160,
            "checkpoint.every_tokens": 32 * 4 * 64,
            "eval.tokens": 2048,
        },
    )


@pytest.fixture(scope="session")
def small_table(small_sweep, cache, tmp_path_factory):
    """What every launcher must give, to the bit."""
    return launched.reference(small_sweep, tmp_path_factory.mktemp("reference"))
