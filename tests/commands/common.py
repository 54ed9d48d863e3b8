"""Call commands in this process, and write tables for them."""

from __future__ import annotations

from scaling import cli
from scaling.utils.errors import EXIT_BAD_INPUT


def call(capsys, *args: str) -> tuple[int, str, str]:
    """Return (exit code, stdout, stderr) of a command line."""
    code = cli.main(list(args))
    out, err = capsys.readouterr()
    return code, out, err


def assert_refused(capsys, line: str, words: str) -> None:
    """Assert that a command line ends with exit code 2 and one line that holds the words."""
    code, out, err = call(capsys, *line.split())
    assert code == EXIT_BAD_INPUT and out == ""
    assert err.startswith("error: ") and words in err and len(err.splitlines()) == 1, err


def write_csv(path, columns: dict) -> str:
    """Write a table and return its path as text."""
    rows = [",".join(str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return str(path)
