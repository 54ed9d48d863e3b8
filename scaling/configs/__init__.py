"""The studies in configs/ of this checkout. A wheel holds them in this folder (pyproject.toml)."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "configs")]
