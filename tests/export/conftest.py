"""Runs with parameters at their first values, which need no training."""

from __future__ import annotations

import jax
import pytest

from scaling.config import load as config_lib
from scaling.export import loaded, new_run
from scaling.programs.step_functions import StepFunctions
from tests.common import TINY


@pytest.fixture
def make_run(tmp_path):
    """Return a function from values of configs/mini.py to the folder of a new run."""

    def make(values=None, name="run", tokenizer_file=None):
        config = config_lib.with_values(
            config_lib.load("configs/mini.py"), {**TINY, **(values or {})}
        )
        params = jax.jit(StepFunctions(loaded.resolved(config)).init)(1)["params"]
        new_run.write(config, params, tmp_path / name, tokenizer_file)
        return tmp_path / name

    return make
