"""Two CPU devices for every test, and one cache of data and compiled programs for the session."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.common import ROOT, run_cli, run_python


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SCALING_CACHE"] = str(folder)
    from scaling.utils import machine

    machine.start_jax(2)
    return folder


@pytest.fixture
def config():
    """A checked config of one tiny run."""
    from scaling.config import load as config_lib

    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {
            "sweep.kind": "none",
            "model.width": 16,
            "model.head_dim": 8,
            "model.mlp_width": 64,
            "train.tokens": 32 * 4 * 40,
            "checkpoint.every_tokens": 32 * 4 * 16,
            "eval.tokens": 2048,
        },
    )


@pytest.fixture(scope="session")
def mini(tmp_path_factory, cache) -> Path:
    """The workdir of a finished, never interrupted `scaling curves --config=configs/mini.py`."""
    workdir = tmp_path_factory.mktemp("mini") / "study"
    done = run_cli("curves", "--config=configs/mini.py", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture(scope="session")
def eight(cache) -> dict:
    """name of a mesh -> what was compiled for it on 8 simulated devices, see compiled_on_eight.py."""
    done = run_python("from tests.parallel import compiled_on_eight; compiled_on_eight.main()")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def texts(tmp_path):
    """(a folder of documents, the config values that read it)."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(40):
        (folder / f"{i}.txt").write_text(f"document {i} " * 200)
    return folder, {
        "data.name": "text_folder",
        "data.path": str(folder),
        "data.valid_fraction": 0.3,
        "data.hash": "",
        "data.cache_dir": str(tmp_path / "cache"),
    }
