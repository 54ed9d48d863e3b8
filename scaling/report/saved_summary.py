"""Read the summary that the last fit of a workdir wrote, without the packages that fit and draw."""

from __future__ import annotations

from pathlib import Path

from scaling.utils import files
from scaling.utils.errors import UserError


def summary(workdir: Path) -> list[str]:
    """Return the lines of `summary.txt`. Raises UserError if no fit has written it."""
    path = workdir / "summary.txt"
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `scaling fit` first")
    with files.damage(path, "run `scaling fit` again"):
        return path.read_text().splitlines()
