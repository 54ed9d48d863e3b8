"""Draw the forecast at one compute after each round of designed runs, with the total cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from scaling.report import style
from scaling.report.picture import Columns, Picture

PANELS = {"loss": "forecast loss, nats/token", "n_params": "forecast N*, parameters"}


def picture(history: Sequence[Mapping[str, Any]], at: float, confidence: float) -> Picture:
    """Return one row per round: round, runs and flops so far, loss and n_params with intervals.

    `history` holds these of each round, loss and n_params as intervals of the optimum at `at`
    FLOPs. The ends of the intervals are the columns `<name>_low` and `<name>_high`.
    """
    columns = {c: np.array([h[c] for h in history]) for c in ("round", "runs", "flops")}
    for name in PANELS:
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            columns[name + end] = np.array([getattr(h[name], key) for h in history])
    return Picture(columns, partial(draw, at=at, confidence=confidence))


def draw(columns: Columns, at: float, confidence: float) -> Figure:
    """Draw a panel per quantity against the round, with intervals."""
    figure, panels = style.panels(len(PANELS), width=style.WIDTH * 1.2)
    for panel, (name, label) in zip(panels, PANELS.items(), strict=True):
        value = columns[name]
        ends = np.stack([value - columns[f"{name}_low"], columns[f"{name}_high"] - value])
        ends = np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0)
        panel.errorbar(
            columns["round"], value, yerr=ends, fmt="o-", color=style.BLUE, capsize=3, lw=1,
            label=f"{confidence:.0%} interval",
        )  # fmt: skip
        totals = zip(columns["round"], columns["flops"], columns["runs"], strict=True)
        panel.set_xticks(
            columns["round"],
            [f"{n:.0f}\n{runs:.0f} runs, {c:.2g}" for n, c, runs in totals],
            fontsize=8,
        )
        panel.set(xlabel="round; runs and FLOPs of all so far", ylabel=label)
        if name == "n_params":
            panel.set_yscale("log")
        panel.set_title(f"optimum at {at:.3g} FLOPs", fontsize=9)
    panels[0].legend(fontsize=7)
    return figure
