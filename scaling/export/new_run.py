"""Write parameters as a run that has not trained yet, ready to load, evaluate or train further."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.data import tokenizers
from scaling.export.loaded import resolved
from scaling.programs.step_functions import StepFunctions
from scaling.training.checkpoint import Checkpoints
from scaling.training.spec import write_or_check_config


def write(config: ConfigDict, params: Any, folder: Path, tokenizer_file: Path | None) -> None:
    """Write a run's config, tokenizer and a checkpoint of step 0 into a new folder.

    The optimizer's state is that of a first step. Without a file the tokenizer is that of bytes.
    """
    functions = StepFunctions(resolved(config))
    state = {
        **jax.jit(functions.init)(config.seed),
        "params": jax.tree.map(jax.numpy.asarray, params),
    }
    write_or_check_config(config, folder)
    if tokenizer_file is not None:
        shutil.copyfile(tokenizer_file, folder / tokenizers.TOKENIZER)
    with Checkpoints(
        folder / "checkpoints", keep=1, asynchronous=False, run=config_lib.run_hash(config)
    ) as checkpoints:
        checkpoints.save(0, state, {"elapsed": 0.0, "forked_at": 0})
