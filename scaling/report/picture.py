"""A picture is its columns and a function that draws them: what is in the CSV is what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.report import style
from scaling.utils import files

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Picture:
    """Columns of equal length, one per column of the CSV, and how to draw them and nothing else."""

    columns: Columns
    draw: Callable[[Columns], Axes | Figure]

    def write(self, stem: Path, caption: str = "") -> Path:
        """Write `stem`.csv, .svg and .png, with `caption` below the drawing; returns the last."""
        svg, png = style.render(lambda: self.draw(self.columns), caption)
        for suffix, content in (
            (".csv", files.csv_bytes(self.columns)),
            (".svg", svg),
            (".png", png),
        ):
            path = stem.with_name(stem.name + suffix)
            files.write_bytes(path, content)
        return path


def stacked(series: Mapping[str, Mapping[str, Any]]) -> Columns:
    """Several series below one another; a column `series` names them.

    Each series maps columns to a sequence or to one value for all its rows. Cells of columns that a
    series lacks are NaN, or empty in columns of text.
    """
    blocks, names = [], {"series": None}
    for name, given in series.items():
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v)) for v in given.values()))
        block = dict(zip(given, arrays, strict=True))
        block["series"] = np.full(len(arrays[0]), name)
        blocks.append(block)
        names.update(dict.fromkeys(given))
    text = {n for n in names for b in blocks if n in b and b[n].dtype.kind in "UO"}
    return {
        n: np.concatenate(
            [
                b[n].astype(str if n in text else float)
                if n in b
                else np.full(len(b["series"]), "" if n in text else np.nan)
                for b in blocks
            ]
        )
        for n in names
    }


def part(columns: Columns, series: str) -> Columns:
    """The rows of one series; no rows where there is none of that name."""
    rows = columns["series"] == series
    return {name: values[rows] for name, values in columns.items()}
