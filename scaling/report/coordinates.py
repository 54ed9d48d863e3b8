"""Draw the sizes of layer outputs against width and depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.report import style
from scaling.report.picture import Columns, Picture

TITLES = {"size": "mean |x|", "update": "mean |x - x before training|"}


def picture(columns: Mapping[str, Any]) -> Picture:
    """Return one panel per side and quantity. Columns: side, value, seed, layer, size, update."""
    return Picture({k: np.asarray(v) for k, v in columns.items()}, draw)


def draw(columns: Columns) -> Figure:
    """Draw the mean over seeds of every layer, with a band from the lowest to the highest seed."""
    sides = list(dict.fromkeys(columns["side"]))
    layers = list(dict.fromkeys(columns["layer"]))
    colours = dict(zip(layers, style.shades(len(layers)), strict=False))
    figure, panels = style.panels(2 * len(sides), width=style.WIDTH * 1.3, height=3.2)
    pairs = [(side, quantity) for side in sides for quantity in TITLES]
    for panel, (side, quantity) in zip(panels, pairs, strict=False):
        for layer in layers:
            rows = (columns["side"] == side) & (columns["layer"] == layer)
            values = np.unique(columns["value"][rows])
            seeds = [columns[quantity][rows & (columns["value"] == v)] for v in values]
            panel.plot(
                values, [s.mean() for s in seeds], "o-", ms=3, lw=1, color=colours[layer],
                label=layer,
            )  # fmt: skip
            panel.fill_between(
                values, [s.min() for s in seeds], [s.max() for s in seeds], alpha=0.15,
                color=colours[layer], lw=0,
            )  # fmt: skip
        panel.set(xscale="log", yscale="log", xlabel=side, ylabel=TITLES[quantity])
        style.log_ticks(panel, "x")
    panels[0].legend(fontsize=6)
    return figure
