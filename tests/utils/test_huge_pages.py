"""Test that a training process restarts itself once with huge pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling.utils import huge_pages
from tests.common import run_python

MADVISE, GLIBC = "always [madvise] never\n", "glibc 2.36"
FIRST_START = {
    "GLIBC_TUNABLES": "",
    huge_pages.RESTARTED: "",
}  # independent of this process's own start
SCRIPT = """
import os, sys
from pathlib import Path
from scaling.utils import huge_pages

starts, huge_pages.KERNEL = Path(sys.argv[1]), Path(sys.argv[2])
if not os.environ[huge_pages.RESTARTED]:
    del os.environ[huge_pages.RESTARTED]
with starts.open("a") as file:
    print(os.getpid(), *sys.argv[3:], file=file)
print("buffered")
huge_pages.restart()
held = bytearray(b"1") * 2**27
lines = [l for l in Path("/proc/self/smaps_rollup").read_text().splitlines() if "AnonHuge" in l]
print(os.environ["GLIBC_TUNABLES"], int(lines[0].split()[1]) * 1024 >= len(held) // 2)
"""
COMMAND = """
import sys
from scaling import cli
from scaling.utils import huge_pages

huge_pages.restart = lambda: print("again")
sys.exit(cli.main())
"""


@pytest.fixture
def here() -> str:
    """Return the kernel's modes on this machine."""
    if not huge_pages.libc().startswith("glibc") or not huge_pages.KERNEL.exists():
        pytest.skip("no glibc, or a kernel without huge pages")
    return huge_pages.KERNEL.read_text()


def test_a_process_restarts_once_and_gets_huge_pages(tmp_path, here):
    starts, kernel = tmp_path / "starts", tmp_path / "enabled"
    kernel.write_text(MADVISE)
    done = run_python(SCRIPT, str(starts), str(kernel), "--a b", env=FIRST_START)
    assert done.returncode == 0, done.stderr
    first, second = starts.read_text().splitlines()
    assert first == second and first.endswith("--a b")
    before, again, (tunables, huge) = (line.split() for line in done.stdout.splitlines())
    assert before == again and tunables == "glibc.malloc.hugetlb=1"
    assert huge == str("[never]" not in here)


def test_a_process_with_small_pages_keeps_them(tmp_path, here):
    starts, kernel = tmp_path / "starts", tmp_path / "enabled"
    kernel.write_text(MADVISE)
    small = {**FIRST_START, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
    done = run_python(SCRIPT, str(starts), str(kernel), env=small)
    assert done.returncode == 0, done.stderr
    assert len(starts.read_text().splitlines()) == 1
    assert done.stdout.splitlines()[-1] == f"glibc.malloc.hugetlb=0 {'[always]' in here}"


@pytest.mark.parametrize(
    ("kernel", "libc", "variables"),
    [
        ("[always] madvise never", GLIBC, {}),
        ("always madvise [never]", GLIBC, {}),
        (MADVISE, "glibc 2.34", {}),
        (MADVISE, "", {}),
        (MADVISE, GLIBC, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}),
        (MADVISE, GLIBC, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"}),
        (MADVISE, GLIBC, {huge_pages.RESTARTED: "1"}),  # without the tunable: no endless restarts
    ],
)  # fmt: skip
def test_the_environment_stays_if_the_tunable_has_no_effect(kernel, libc, variables):
    assert huge_pages.environment_with_tunable(variables, kernel, libc) is None


def test_other_tunables_and_variables_stay():
    variables = {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    assert huge_pages.environment_with_tunable(variables, MADVISE, GLIBC) == {
        "HOME": "/",
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1",
        huge_pages.RESTARTED: "1",
    }


def test_without_huge_pages_in_the_kernel_nothing_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(huge_pages, "KERNEL", Path(tmp_path / "missing"))
    huge_pages.restart()  # returns


@pytest.mark.parametrize(("command", "restarts"), [("train", 1), ("sweep", 1), ("report", 0)])
def test_only_commands_that_train_restart(command, restarts):
    done = run_python(COMMAND, command)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stdout.count("again") == restarts
