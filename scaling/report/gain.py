"""Draw the compute-equivalent gain of a family of runs against compute."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from scaling.laws.gain import Gain
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked


def picture(gain: Gain) -> Picture:
    """Return the gain at its computes. Columns: flops, gain, low, high (infinite where never)."""
    series = {
        "flops": gain.flops,
        "gain": [g.value for g in gain.gain],
        "low": [g.low for g in gain.gain],
        "high": [g.high for g in gain.gain],
    }
    return Picture(stacked({"gain": series}), partial(draw, confidence=gain.confidence))


def draw(columns: Columns, confidence: float) -> Axes:
    """Draw the finite gains with their intervals, and a line at 1."""
    axes = style.new_axes(
        "Compute-equivalent gain",
        style.label("flops"),
        "gain: baseline's compute over the new one's",
    )
    rows = part(columns, "gain")
    axes.axhline(1.0, color=style.GREY, lw=1, ls=":")
    finite = np.isfinite(rows["gain"])
    x, y = rows["flops"][finite], rows["gain"][finite]
    ends = np.stack([y - rows["low"][finite], rows["high"][finite] - y])
    axes.errorbar(
        x, y, yerr=np.where(np.isfinite(ends), np.maximum(ends, 0.0), 0.0), fmt="o-",
        color=style.BLUE, ms=4.5, capsize=3, elinewidth=1, label=f"gain, {confidence:.0%} interval",
    )  # fmt: skip
    never = rows["flops"][~finite]
    if len(never):
        axes.plot(never, np.full(len(never), 0.97), "^", color=style.RED, label="infinite",
                  transform=axes.get_xaxis_transform())  # fmt: skip
    style.log_ticks(axes, "x", most=8)
    if len(y):
        style.log_ticks(axes, "y")
    axes.legend()
    return axes
