"""Read the sealed forecast of a workdir, `forecast.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling.utils import files


def read(workdir: Path) -> dict[str, Any] | None:
    """Return the sealed forecast of `workdir`, or None without one. Unknown losses are NaN.

    Raises UserError if the file is damaged.
    """
    path = workdir / "forecast.json"
    if not path.is_file():
        return None
    forecast = files.read_json(path)
    for loss in (forecast["predicted_loss"], *(law["loss"] for law in forecast["laws"].values())):
        loss.update({k: float("nan") for k, v in loss.items() if v is None})
    return forecast
