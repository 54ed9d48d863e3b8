"""Set the colours, type and axes of all pictures, and render them to SVG and PNG.

Kinds of line have the colours of Okabe & Ito 2008; budgets, sizes and losses have viridis. Both
work with any common colour vision.
"""

from __future__ import annotations

import io
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from scaling.utils import precision

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
SKY, PURPLE, BLACK = "#56B4E9", "#CC79A7", "#000000"
KINDS = (BLUE, ORANGE, GREEN, PURPLE, SKY, GREY, BLACK)  # of equal rank; RED marks the answer
WIDTH, HEIGHT = 6.4, 4.0  # inches; legible at the width of a page or of one column
LETTERS_PER_INCH, CAPTION_LINE = 19, 0.115  # of a caption: letters per inch, inches per line
STYLE: Any = {
    "figure.figsize": (WIDTH, HEIGHT),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "grid.alpha": 0.25,
    "font.size": 10,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "savefig.dpi": 160,
    "svg.hashsalt": "scaling",  # equal data make equal files
}
LABELS = {
    "n_params": "model size N, parameters",
    "tokens": "training data D, tokens",
    "flops": "training compute C, FLOPs",
    "loss": "loss, nats/token",
    "training_loss": "training loss, nats/token",
    "unique_tokens": "unique data U, tokens",
    "tokens_per_param": "M = D / N, tokens per parameter",
    "lr": "peak learning rate",
    "batch": "batch size, tokens per step",
    "x": "x",
    "error": "downstream error",
}


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour of `KINDS` per distinct name, in order, starting again after the last."""
    return dict(zip(dict.fromkeys(names), itertools.cycle(KINDS), strict=False))


def label(name: str, labels: Mapping[str, str] | None = None) -> str:
    """Return the axis label of a column, with its unit. `labels` override the usual ones."""
    return {**LABELS, **(labels or {})}.get(name, name)


def symbol(name: str) -> str:
    """Return the letter of a column, as in N = 12,288, or its name if it has no letter."""
    letters = {"n_params": "N", "tokens": "D", "unique_tokens": "U", "flops": "C"}
    return letters.get(name, name)


def count(value: float) -> str:
    """Format a number of parameters or tokens: all digits below a million, then 3.2M, 1.5B, 2T."""
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:,.0f}"


def power(letter: str, exponent: Any) -> str:
    """Return a power with the interval of its exponent, as matplotlib draws it."""
    value, low, high = precision.texts(exponent.value, exponent.low, exponent.high)
    return f"{letter}$^{{{value}}}$ [{low}, {high}]"


def starred(name: str, labels: Mapping[str, str] | None = None) -> str:
    """Return the label of a column at the optimum: N*, D* or L*. Raises KeyError for others."""
    quantity, _, unit = label(name, labels).rpartition(",")
    symbol = {"n_params": "N", "tokens": "D", "loss": "L"}[name]
    return f"{quantity.removesuffix(f' {symbol}')} {symbol}*,{unit}"


def mathtext(equation: str) -> str:
    """Return a form's equation as matplotlib mathtext, with raised exponents and Greek letters."""
    raised = re.sub(r"\^(\([^()]*\)|-?\w+)", lambda m: "^{" + m[1].strip("()") + "}", equation)
    greek = re.sub(r"(?<![a-zA-Z])(alpha|beta|gamma|eta)(?![a-zA-Z])", r"\\\1", raised)
    words = re.sub(r"(?<![a-zA-Z\\])(err|exp|log|eps)(?![a-zA-Z])", r"\\mathrm{\1}", greek)
    spaced = words.replace(" \\mathrm", "\\,\\mathrm").replace("\\mathrm{eps}", "\\epsilon")
    return "$" + re.sub(r"([A-Z])([0-9])", r"\1_\2", spaced) + "$"


def render(draw: Callable[[], Axes | Figure], caption: str = "") -> tuple[bytes, bytes]:
    """Return the bytes of the drawing as (SVG, PNG), with `caption` in small type below it."""
    with plt.rc_context(STYLE):
        drawing = draw()
        figure = drawing if isinstance(drawing, Figure) else drawing.get_figure(root=True)
        assert figure is not None  # an axes always has one
        page = _captioned(figure, caption) if caption else None
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None}, bbox_inches=page)
        figure.savefig(png, format="png", bbox_inches=page)
        plt.close(figure)
    return svg.getvalue(), png.getvalue()


def _captioned(figure: Figure, caption: str) -> Bbox:
    """Write the caption below the figure. Return the box that holds both, in inches."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(caption, int(LETTERS_PER_INCH * width))
    text_style: Any = {"va": "top", "fontsize": 6.5, "color": "0.35"}
    figure.text(0.01, -0.03 / height, "\n".join(lines), **text_style)
    if figure.legends:
        # a legend outside the axes would move to the page: lay it out first, then pin it
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for legend in figure.legends:
            legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    return Bbox([[0.0, -CAPTION_LINE * (len(lines) + 1)], [width, height]])


def new_axes(title: str, x: str, y: str, *, log_y: bool = True) -> Axes:
    """Return the axes of a new figure, with a logarithmic x axis and, if `log_y`, y axis."""
    _, axes = plt.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log")
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ticker.ScalarFormatter())
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    return axes


def seeds(axes: Axes, points: Mapping[str, Any], x: str, *, color, label: str, **kind: Any) -> None:
    """Draw losses at `x` with error bars. `points` has columns `x`, loss, sd, count and loss_se.

    The bar of a mean over seeds is their standard deviation (`sd`). The bar of a single run is the
    standard error of its evaluation (`loss_se`).
    """
    several = np.asarray(points["count"], float) > 1
    bars = np.nan_to_num(np.where(several, points["sd"], points["loss_se"]))
    label += " (mean, s.d. of seeds)" if several.any() else ""
    style: Any = {"fmt": "o", "ms": 4.5, "mec": "white", "mew": 0.4, "capsize": 2.5}
    axes.errorbar(
        points[x], points["loss"], yerr=bars, color=color, elinewidth=1, label=label, zorder=4,
        **(style | kind),
    )  # fmt: skip


def panels(count: int, *, width: float = WIDTH, height: float = 2.9, share_y: bool = False):
    """Return a figure and `count` axes, side by side, or in rows of two from four on."""
    columns = count if count <= 3 else 2
    rows = -(-count // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, height * rows),
        squeeze=False,
        sharey=share_y,
        layout="constrained",
    )
    for empty in axes.flat[count:]:
        empty.remove()
    return figure, list(axes.flat[:count])


def loss_ticks(axes: Axes, which: str = "y") -> None:
    """Put plain, evenly spaced numbers on a logarithmic axis of losses."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = sorted(axis.get_view_interval())
    if high > 30 * low:  # several decades: use powers of ten
        axis.set_major_locator(ticker.LogLocator())
        axis.set_major_formatter(ticker.LogFormatterSciNotation())
        return
    steps = [m * 10.0**e for e in range(-8, 3) for m in (1, 2, 5)]
    step = min(steps, key=lambda s: abs((high - low) / s - 5.5))
    axis.set_major_locator(
        ticker.FixedLocator(list(np.arange(np.ceil(low / step), high / step) * step))
    )
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    axis.set_major_formatter(ticker.FormatStrFormatter(f"%.{decimals}f"))
    axis.set_minor_locator(ticker.NullLocator())


def log_ticks(axes: Axes, which: str = "x", most: int = 5) -> None:
    """Put about `most` powers of ten on a logarithmic axis, with digits between if it is short."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    if decades < 1.7:
        subs = (1.0, 3.0) if decades > 0.8 else (1.0, 2.0, 3.0, 5.0, 7.0)
        axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=12))
        axis.set_major_formatter(ticker.LogFormatterSciNotation(minor_thresholds=(np.inf, np.inf)))
    else:
        axis.set_major_locator(ticker.LogLocator(numticks=most + 1))
        axis.set_major_formatter(ticker.LogFormatterSciNotation())
    axis.set_minor_formatter(ticker.NullFormatter())


def shades(count: int) -> list:
    """Return at least `count` colours of viridis, from dark to light."""
    return [plt.get_cmap("viridis")(x) for x in np.linspace(0.0, 0.85, max(count, 2))]
