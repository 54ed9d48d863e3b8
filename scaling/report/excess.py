"""Draw the excess loss of repeated data over fresh data against epochs: runs and the law."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked


def picture(runs: Mapping[str, np.ndarray], law: Mapping[str, np.ndarray]) -> Picture:
    """Return the series `run` and `law`.

    Columns: n_params, unique_tokens, epochs (1 if no token repeats) and excess. The excess is the
    loss over the law's loss for as many fresh tokens, minus 1.
    """
    return Picture(stacked({"run": runs, "law": law}), draw)


def draw(columns: Columns) -> Figure:
    """Draw a panel per size and a line per number of unique tokens."""
    runs, law = part(columns, "run"), part(columns, "law")
    sizes = np.unique(runs["n_params"])
    figure, panels = style.panels(len(sizes), width=style.WIDTH * (1.0 if len(sizes) == 1 else 1.3))
    amounts = np.unique(runs["unique_tokens"])
    for panel, n_params in zip(panels, sizes, strict=True):
        for unique, colour in zip(amounts, style.shades(len(amounts)), strict=False):
            run_rows, law_rows = (
                (s["n_params"] == n_params) & (s["unique_tokens"] == unique) for s in (runs, law)
            )
            panel.plot(
                law["epochs"][law_rows], 100 * law["excess"][law_rows], "-", color=colour, lw=1.3
            )
            panel.plot(
                runs["epochs"][run_rows], 100 * runs["excess"][run_rows], "o", color=colour, ms=4.5,
                mec="white", mew=0.4, label=f"U = {style.count(unique)}",
            )  # fmt: skip
        panel.axhline(0, color=style.GREY, lw=0.8)
        panel.set(xscale="log", xlabel="epochs, D / U", ylabel="loss above that of fresh tokens, %")
        panel.set_title(f"N = {style.count(n_params)}")
        style.log_ticks(panel, most=6)
        panel.legend(fontsize=7)
    return figure
