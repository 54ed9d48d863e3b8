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
    if not path.exists():
        return None
    forecast = files.read_json(path)
    with files.damage(path):
        files.check_numbers(forecast, "flops", "n_params", "tokens")
        laws = forecast["laws"].values()
        for loss in (forecast["predicted_loss"], *(law["loss"] for law in laws)):
            loss.update({k: float("nan") for k, v in loss.items() if v is None})
            if not all(isinstance(loss[name], float) for name in ("value", "low", "high")):
                raise ValueError("a loss is not a number")
        for law in laws:
            files.check_numbers(law, "weight")
            errors = {str(i): error for i, error in enumerate(law["backtest_log_errors"])}
            files.check_numbers(errors, *errors)
    return forecast
