"""A training process asks for huge pages, by starting itself again once."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaling import huge_pages
from tests.conftest import run_python

LEFT_TO_PROGRAMS = "always [madvise] never\n"

RESTART = """
import os, sys
from pathlib import Path
from scaling import huge_pages

starts, huge_pages.KERNEL = Path(sys.argv[1]), Path(sys.argv[2])
with starts.open("a") as file:
    print(os.getpid(), *sys.argv[3:], file=file)
print("said before")
huge_pages.restart()
import numpy as np

held = np.ones(2**27, np.uint8)
found = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "AnonHuge" in line]
print(os.environ["GLIBC_TUNABLES"], int(found[0].split()[1]) * 1024 >= len(held) // 2)
"""

COMMAND = """
import sys
from scaling import cli, huge_pages

huge_pages.restart = lambda: print("again")
sys.exit(cli.main())
"""


def test_a_process_starts_again_once_and_gets_huge_pages(tmp_path):
    starts, kernel = tmp_path / "starts", tmp_path / "enabled"
    kernel.write_text(LEFT_TO_PROGRAMS)
    done = run_python(RESTART, str(starts), str(kernel), "--a b", env={"GLIBC_TUNABLES": ""})
    assert done.returncode == 0, done.stderr
    first, second = starts.read_text().splitlines()
    assert first == second and first.endswith("--a b")
    before, again, (said, huge) = (line.split() for line in done.stdout.splitlines())
    assert before == again and said == "glibc.malloc.hugetlb=1"
    assert huge == str("[never]" not in huge_pages.KERNEL.read_text())


@pytest.mark.parametrize(
    ("kernel", "tunables"),
    [
        ("[always] madvise never", ""),
        ("always madvise [never]", ""),
        (LEFT_TO_PROGRAMS, "glibc.malloc.hugetlb=0"),
        (LEFT_TO_PROGRAMS, "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"),
    ],
)
def test_nothing_is_asked_where_it_would_change_nothing(kernel, tunables):
    assert huge_pages.asking({"GLIBC_TUNABLES": tunables}, kernel) is None


def test_other_tunables_and_variables_stay():
    variables = {"HOME": "/", "GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    asked = huge_pages.asking(variables, LEFT_TO_PROGRAMS)
    assert asked == {
        "HOME": "/",
        "GLIBC_TUNABLES": "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1",
    }


def test_a_kernel_without_them_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(huge_pages, "KERNEL", Path(tmp_path / "missing"))
    huge_pages.restart()  # returns


@pytest.mark.parametrize(("command", "restarts"), [("train", 1), ("sweep", 1), ("report", 0)])
def test_only_commands_that_train_start_again(command, restarts):
    done = run_python(COMMAND, command)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert done.stdout.count("again") == restarts
