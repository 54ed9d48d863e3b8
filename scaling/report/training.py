"""Draw the training curves of a sweep and their lower envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from scaling.laws.envelope import Curve, EnvelopeFit
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

WINDOWS = 60  # the running mean spans this fraction (1 / 60) of a curve's logged steps


def picture(
    curves: Sequence[Curve], envelope: EnvelopeFit | None, labels: Mapping[str, str] | None = None
) -> Picture:
    """Return the series `training` (`loss` as logged, `smoothed` as drawn) and `envelope`."""

    def joined(column):
        return np.concatenate([np.empty(0), *(column(c) for c in curves)])

    series: dict[str, dict] = {
        "training": {
            "run_id": np.repeat(
                np.array([c.name for c in curves], str), [len(c.loss) for c in curves]
            ),
            "n_params": joined(lambda c: np.full(len(c.loss), c.n_params)),
            "tokens": joined(lambda c: c.tokens),
            "flops": joined(lambda c: c.flops),
            "loss": joined(lambda c: c.loss),
            "smoothed": joined(lambda c: _smoothed(c.loss)),
        }
    }
    if envelope:
        series["envelope"] = {
            "n_params": envelope.n_params,
            "tokens": envelope.tokens,
            "flops": envelope.flops,
            "loss": envelope.loss,
            "smoothed": envelope.loss,
        }
    return Picture(stacked(series), partial(draw, labels=labels))


def draw(columns: Columns, labels: Mapping[str, str] | None) -> Axes:
    """Draw loss against compute of every run, coloured by size, with the envelope."""
    axes = style.new_axes(
        "Training curves", style.label("flops", labels), style.label("training_loss", labels)
    )
    runs, envelope = part(columns, "training"), part(columns, "envelope")
    sizes = np.unique(runs["n_params"])
    for size, colour in zip(sizes, style.shades(len(sizes)), strict=False):
        size_rows = runs["n_params"] == size
        for i, name in enumerate(np.unique(runs["run_id"][size_rows])):
            rows = size_rows & (runs["run_id"] == name)
            axes.plot(
                runs["flops"][rows], runs["smoothed"][rows], "-", color=colour, lw=0.7,
                label=None if i else f"N = {size:,.0f}",
            )  # fmt: skip
    if len(envelope["flops"]):
        axes.plot(
            envelope["flops"], envelope["smoothed"], "-", color=style.RED, lw=2, label="envelope"
        )
    style.loss_ticks(axes)
    style.log_ticks(axes, most=8)
    axes.legend(fontsize=7, ncols=2)
    return axes


def _smoothed(loss: np.ndarray) -> np.ndarray:
    """Return the running mean, NaN until its window is full."""
    window = max(1, len(loss) // WINDOWS)
    mean = np.convolve(loss, np.ones(window) / window, "valid")
    return np.concatenate([np.full(window - 1, np.nan), mean])
