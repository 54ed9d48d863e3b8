"""Read what the last fit of a workdir wrote, without the packages that fit and draw.

The fit leaves a stamp, `curves/inputs.json`: a hash of its inputs, and of each file that it wrote.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scaling.utils import files
from scaling.utils.errors import UserError

FIX = "run `scaling fit` again"
STAMP = Path("curves") / "inputs.json"


def summary(workdir: Path) -> list[str]:
    """Return the lines of `summary.txt`.

    Raises UserError if no fit has written it, Damaged if it or a law is not what the fit wrote.
    """
    path = workdir / "summary.txt"
    if not path.exists():
        raise UserError(f"{path}: no such file; run `scaling fit` first")
    check(workdir)
    with files.damage(path, FIX):
        return path.read_text().splitlines()


def check(workdir: Path) -> None:
    """Raise Damaged naming the first file that is not what the last fit wrote."""
    written = stamp(workdir).get("written", {})
    for name, found in hashes(workdir, written).items():
        if found != written[name]:
            raise files.Damaged(f"{workdir / name}: differs from what was written; {FIX}")


def stamp(workdir: Path) -> dict[str, Any]:
    """Return what the last fit noted; nothing if it cannot be read, which only costs a fit."""
    path = workdir / STAMP
    try:
        with files.damage(path):
            content = files.read_json(path)
            names = [str(name) for name in content["curves"]]
            return {**content, "curves": names, "written": dict(content.get("written", {}))}
    except UserError:
        return {}


def hashes(workdir: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of files below the workdir, "" for one that cannot be read."""
    found = {}
    for name in names:
        try:
            found[name] = hashlib.sha256((workdir / name).read_bytes()).hexdigest()
        except OSError:
            found[name] = ""
    return found
