"""Test the hash of the sources, which covers every package, and the peak of a CPU."""

from __future__ import annotations

import json
import math
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


@pytest.fixture
def peaks(tmp_path, monkeypatch):
    """Return a list of FLOP/s that each process will measure, and a function that is a process."""
    measured: list[float] = []
    monkeypatch.setenv("SCALING_CACHE", str(tmp_path))
    monkeypatch.setattr(machine, "_measured_peak", lambda dtype: measured.pop(0))

    def peak(dtype="float32"):
        machine.peak_flops.cache_clear()
        return machine.peak_flops(dtype)

    yield measured, peak
    machine.peak_flops.cache_clear()


def test_the_peak_is_measured_once_until_nothing_is_faster(peaks, tmp_path):
    measured, peak = peaks
    measured += [3e9, 8e9, 5e9, 1e9, 2e9]  # the first one is on a busy machine
    assert [peak() for _ in range(7)] == [8e9] * 7 and not measured
    measured += [1e9, 2e9, 3e9, 4e9, 5e9, 5e9, 5e9, 5e9]  # still rising at the fifth
    assert peak("bfloat16") == 5e9 and peak() == 8e9 and not measured
    assert len(list((tmp_path / "peaks").iterdir())) == 2


def test_plans_of_one_machine_agree(peaks):
    measured, peak = peaks
    measured += [8e9, 6e9, 7e9, 6e9, 5e9]
    first = peak()
    measured += [9e9] * 5  # an idle machine later on
    assert peak() == first


@pytest.mark.parametrize(
    "damage", ["", "[]", "null", "{}", '{"flops_per_second": 1e999}', "[" * 99999]
)
def test_a_damaged_peak_is_measured_again(damage, peaks, tmp_path):
    measured, peak = peaks
    measured += [3e9] * 5 + [2e9] * 5
    assert peak() == 3e9
    (path,) = (tmp_path / "peaks").iterdir()
    path.write_text(damage)
    assert peak() == 2e9 and json.loads(path.read_text())["measurements"] == 5


def test_a_share_of_the_peak_is_never_above_one(peaks):
    measured, peak = peaks
    measured += [1e9] * 5
    peak()
    assert machine.utilisation(0.5e9, "float32") == 0.5
    assert math.isnan(machine.utilisation(2.34e9, "float32"))


def test_a_cache_that_cannot_be_written_keeps_no_peak(peaks, tmp_path):
    measured, peak = peaks
    measured += [3e9] * 5 + [2e9] * 5
    (tmp_path / "peaks").write_text("in the place of the folder")
    assert peak() == 3e9 and peak() == 2e9
