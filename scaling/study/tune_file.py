"""Keep the length of a tuning's runs in its workdir, so that the same command continues them."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.utils import files
from scaling.utils.errors import UserError

MOST_TOKENS = 1e18


def write(path: Path, config: ConfigDict, seconds: float, shortest: float) -> None:
    """Write the tokens of the shortest run, and the time and the config that they are for."""
    content = {
        "seconds": seconds,
        "shortest_tokens": shortest,
        "config": config_lib.sweep_hash(config),
    }
    files.write_json(path, content, seal=True)


def read(path: Path, config: ConfigDict, seconds: float, least: float) -> float:
    """Return the tokens of the shortest run, at least `least`.

    Raises UserError if the file is of another config or time, Damaged if it is changed.
    """
    stored = files.read_json(path)
    with files.damage(path):
        files.check_numbers(stored, "seconds", "shortest_tokens")
        shortest = float(stored["shortest_tokens"])
        if not 0.99 * least <= shortest <= MOST_TOKENS:
            raise ValueError(f"shortest_tokens={shortest:.6g} is not {least:,} tokens or more")
    if stored.get("config") != config_lib.sweep_hash(config):
        raise UserError(
            f"--workdir={path.parent} holds the tuning of another study; choose another"
        )
    if stored["seconds"] != seconds:
        raise UserError(
            f"--time={seconds:g}s: --workdir={path.parent} holds a tuning of "
            f"{stored['seconds']:g}s; give that time to continue it, or another --workdir"
        )
    return shortest
