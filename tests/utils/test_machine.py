"""Test that the hash of the sources covers every package, so that curves of old code are stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import scaling
from scaling.utils import machine

SOURCE = Path(scaling.__file__).parent


def code_hash() -> str:
    return machine.code_hash.__wrapped__()  # without the cache of this process


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """Copy the package and let `code_hash` read the copy."""
    folder = tmp_path / "scaling"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(machine, "PACKAGE", folder)
    return folder


def test_the_hash_is_that_of_the_whole_package(copy, monkeypatch):
    copied = code_hash()
    monkeypatch.undo()  # back to the folder that the module found itself
    assert machine.PACKAGE == SOURCE and code_hash() == copied


def test_a_change_of_any_file_changes_the_hash(copy):
    paths = sorted(copy.rglob("*.py"))
    packages = {path.relative_to(copy).parts[0] for path in paths}
    assert len(packages) > 10 and {"cli.py", "sweep", "laws", "utils"} <= packages
    hashes = {code_hash()}
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content + b"# changed\n")
        hashes.add(code_hash())
        path.write_bytes(content)
    assert len(hashes) == 1 + len(paths)


def test_a_new_or_renamed_file_changes_the_hash(copy):
    before = code_hash()
    (copy / "laws" / "new.py").write_text("")
    added = code_hash()
    (copy / "laws" / "new.py").rename(copy / "laws" / "other.py")
    assert len({before, added, code_hash()}) == 3


def test_files_that_are_not_sources_do_not_change_the_hash(copy):
    before = code_hash()
    (copy / "laws" / "notes.txt").write_text("not code")
    assert code_hash() == before
