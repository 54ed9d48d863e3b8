"""Fixtures of the sweep's tests: one small sweep, its table, Slurm and an S3 server."""

from __future__ import annotations

import importlib.util
import json
import os
import uuid

import pytest

from scaling.config import load as config_lib
from tests.common import ROOT, STEP, TINY, make_once
from tests.sweep import launched, s3_server, slurm_cluster


@pytest.fixture
def hostile_folder(tmp_path, monkeypatch):
    """The current folder, with modules that the program must not import. They leave a trace."""
    folder, trace = tmp_path / "current", tmp_path / "imported"
    (folder / "configs").mkdir(parents=True)
    for name in ("configs/__init__.py", "tqdm.py", "experiments.py", "numpy.py"):
        (folder / name).write_text(f"open({str(trace)!r}, 'a').write(__file__ + '\\n')\n")
    monkeypatch.chdir(folder)
    yield folder
    assert not trace.exists(), trace.read_text()


@pytest.fixture(scope="session")
def small_sweep():
    """Four runs of one size, each of 400 steps and 25 dispatches, about a second."""
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {
            **TINY,
            "sweep.kind": "grid",
            "sweep.grid_keys": ("optim.lr",),
            "sweep.grid_values": ((1e-3, 2e-3, 4e-3, 8e-3),),
            "train.tokens": STEP * 400,
            "checkpoint.every_tokens": STEP * 64,
            "launch.pack": 1,  # one run after another, so that a test can interrupt it
        },
    )


@pytest.fixture(scope="session")
def small_table(small_sweep, shared):
    """The table that every launcher must reproduce, to the bit."""
    path = shared / "small_table.json"

    def make():
        rows = launched.reference(small_sweep, shared / "small_table")
        path.write_text(json.dumps(rows))

    make_once(path, make)
    return json.loads(path.read_text())


def _skip_or_fail(reason: str) -> None:
    """Skip a test without its programs; fail in CI, where `.ci/run` sets the variable."""
    if os.environ.get("SCALING_REQUIRE_CLUSTERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm():
    """Start a Slurm that all processes of the tests find."""
    if missing := slurm_cluster.missing():
        _skip_or_fail(
            f"no Slurm here: {', '.join(missing)} missing; apt-get install slurm-wlm munge"
        )
    if importlib.util.find_spec("submitit") is None:
        _skip_or_fail("submitit is not installed; pip install 'scaling[dev]'")
    with slurm_cluster.running() as env, pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def ray_installed():
    if importlib.util.find_spec("ray") is None:
        _skip_or_fail("ray is not installed; pip install 'scaling[dev]'")


@pytest.fixture(scope="session")
def server():
    with s3_server.running() as url:
        yield url


@pytest.fixture
def url(server, monkeypatch):
    """Return an empty prefix of a bucket; the environment configures clients in all processes."""
    import fsspec

    for key, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdirs("bucket", exist_ok=True)
    return f"s3://bucket/{uuid.uuid4().hex}"
