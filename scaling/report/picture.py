"""Define a picture: the columns of its CSV and the function that draws them."""

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
EQUAL_COMPUTE = "equal compute"  # first words of the name of a series that is a line of equal FLOPs


@dataclass(frozen=True)
class Picture:
    """Columns of equal length, as in the CSV, and a function that draws only these."""

    columns: Columns
    draw: Callable[[Columns], Axes | Figure]

    def write(self, stem: Path, caption: str = "") -> Path:
        """Write `stem`.csv, .svg and .png with `caption` below. Return the path of the PNG."""
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
    """Stack several series in one table, with a column `series` that names them.

    Each series maps columns to a sequence or to one value for all its rows. If a series lacks a
    column, its cells are NaN, or empty in columns of text. Raises ValueError if the lengths of
    one series differ.
    """
    blocks, names = [], {"series": None}
    for name, values in series.items():
        arrays = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v)) for v in values.values()))
        block = dict(zip(values, arrays, strict=True))
        block["series"] = np.full(len(arrays[0]), name)
        blocks.append(block)
        names.update(dict.fromkeys(values))
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
    """Return the rows of one series, none if no series has that name."""
    rows = columns["series"] == series
    return {name: values[rows] for name, values in columns.items()}


def equal_compute_name(flops: float) -> str:
    """Return the name of the series that is the line of equal compute at `flops`."""
    return f"{EQUAL_COMPUTE} {flops:.0e}"


def equal_compute_lines(columns: Columns) -> list[Columns]:
    """Return the rows of each line of equal compute, in order of appearance."""
    names = dict.fromkeys(columns["series"])
    return [part(columns, name) for name in names if name.startswith(f"{EQUAL_COMPUTE} ")]
