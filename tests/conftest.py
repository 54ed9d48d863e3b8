"""Fixtures of all tests: two CPU devices, one cache and one finished study per run of pytest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.common import (
    ROOT,
    STEP,
    TINY,
    as_users_compile,
    compile_quickly,
    make_once,
    run_cli,
    run_python,
)

compile_quickly()


# Folders whose tests take long, so that no worker of pytest-xdist begins with one near the end
LONG = ("parallel", "sweep", "fields", "analysis", "training", "study")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.relative_to(ROOT / "tests").parts[0] not in LONG)


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache(shared) -> Path:
    """The folder of prepared data and compiled programs; jax has started with two devices."""
    folder = shared / "cache"
    os.environ["SCALING_CACHE"] = str(folder)
    from scaling.utils import machine

    machine.start_jax(2)
    return folder


@pytest.fixture
def config():
    """The checked config of a tiny run of 40 steps."""
    from scaling.config import load as config_lib

    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {**TINY, "train.tokens": STEP * 40, "checkpoint.every_tokens": STEP * 16},
    )


@pytest.fixture(scope="session")
def mini(shared, cache) -> Path:
    """The workdir of a finished `scaling curves --config=configs/mini.py`. Tests leave it alone."""
    workdir = shared / "mini"

    def make():
        done = run_cli("curves", "--config=configs/mini.py", f"--workdir={workdir}")
        assert done.returncode == 0, done.stderr

    make_once(workdir, make)
    return workdir


@pytest.fixture(scope="session")
def eight(shared, cache) -> dict:
    """Name of a mesh -> its program on 8 simulated devices, see compiled_on_eight.py."""
    path = shared / "eight.json"

    def make():
        code = "from tests.parallel import compiled_on_eight; compiled_on_eight.main()"
        done = run_python(code, env=as_users_compile())
        assert done.returncode == 0, done.stderr
        path.write_text(done.stdout)

    make_once(path, make)
    return json.loads(path.read_text())


@pytest.fixture
def texts(tmp_path):
    """(A folder of documents, the config values that read it)."""
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
