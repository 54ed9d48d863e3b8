"""The pictures of a sweep, as SVG and PNG; each function draws on one axes and reads only its inputs.

Colours: the eight of Okabe & Ito 2008 for kinds of line, viridis for budgets and sizes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7F7F7F"
STYLE: Any = {
    "figure.figsize": (6.4, 4.2),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "font.size": 10,
    "legend.frameon": False,
    "svg.hashsalt": "scaling",  # equal data make equal files
}


def render(draw: Callable[[], Axes]) -> tuple[bytes, bytes]:
    """(SVG, PNG) of what `draw` draws."""
    with plt.rc_context(STYLE):
        figure = draw().get_figure(root=True)
        assert figure is not None  # an axes always has one
        figure.tight_layout()
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=160)
        plt.close(figure)
    return svg.getvalue(), png.getvalue()


def new_axes(title: str, x: str, y: str, *, log_y: bool = True) -> Axes:
    _, axes = plt.subplots()
    axes.set(title=title, xlabel=x, ylabel=y, xscale="log")
    if log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    return axes


def loss_ticks(axes: Axes) -> None:
    """Plain numbers on a logarithmic loss axis that spans less than a decade."""
    low, high = axes.get_ylim()
    step = min((0.05, 0.1, 0.2, 0.5, 1.0), key=lambda s: abs((high - low) / s - 6))
    axes.set_yticks(np.arange(np.ceil(low / step) * step, high, step))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%.2f"))


def shades(count: int) -> list:
    return [plt.get_cmap("viridis")(x) for x in np.linspace(0.0, 0.85, max(count, 2))]


def isoflop(fits) -> Axes:
    """Loss against size at each budget, with parabolas and their minima."""
    axes = new_axes(
        "IsoFLOP profiles", "parameters without embeddings, N", "held-out loss, nats/token"
    )
    t = fits.table
    for profile, colour in zip(
        fits.isoflop.profiles, shades(len(fits.isoflop.profiles)), strict=False
    ):
        rows = t.budget == profile.budget
        n = t.n_params[rows]
        axes.plot(n, t.loss[rows], "o", color=colour, ms=5, label=f"{profile.budget:.2g} FLOPs")
        if not np.isfinite(profile.coefficients).all():
            continue
        grid = np.geomspace(n.min(), n.max(), 100)
        axes.plot(grid, profile.curve(grid), "-", color=colour, lw=1.2)
        if not profile.problem:
            axes.plot(profile.n_opt.value, profile.loss_opt.value, "*", color=RED, ms=12, zorder=5)
    axes.plot([], [], "*", color=RED, ms=10, label="interior minimum")
    loss_ticks(axes)
    axes.legend(fontsize=8)
    return axes


def loss_curves(fits) -> Axes:
    """Training loss against compute of every run, coloured by size, with the envelope."""
    axes = new_axes("Training curves", "training FLOPs", "training loss, nats/token")
    sizes = sorted({c.n_params for c in fits.curves})
    shade = dict(zip(sizes, shades(len(sizes)), strict=False))
    labelled = set()
    for c in sorted(fits.curves, key=lambda c: c.n_params):
        label = None if c.n_params in labelled else f"N = {c.n_params:,.0f}"
        labelled.add(c.n_params)
        window = max(1, len(c.loss) // 60)
        kernel = np.ones(window) / window
        smooth = np.convolve(c.loss, kernel, "valid")
        axes.plot(c.flops[window - 1 :], smooth, "-", color=shade[c.n_params], lw=0.7, label=label)
    if fits.envelope:
        e = fits.envelope
        axes.plot(e.flops, e.loss, "-", color=RED, lw=2, label="envelope")
    loss_ticks(axes)
    axes.legend(fontsize=7, ncols=2)
    return axes


def residuals(fits) -> Axes:
    """Measured over predicted loss of the parametric law, against size."""
    c, t = fits.chinchilla, fits.long_runs
    axes = new_axes(
        "Residuals of L(N, D) = E + A/N$^\\alpha$ + B/D$^\\beta$",
        "parameters without embeddings, N",
        "measured / predicted - 1, %",
        log_y=False,
    )
    budgets = np.unique(t.budget)
    for budget, colour in zip(budgets, shades(len(budgets)), strict=False):
        rows = t.budget == budget
        axes.plot(
            t.n_params[rows],
            100 * np.expm1(c.residuals[rows]),
            "o",
            color=colour,
            label=f"{budget:.2g} FLOPs",
        )
    axes.axhline(0, color=GREY, lw=1)
    axes.legend(fontsize=8)
    return axes


def against_compute(fits, law: str, quantity: str, forecast, holdout) -> Axes:
    """Loss, N* or D* at the optimum against compute by all three approaches."""
    names = {
        "loss": ("Compute-optimal loss", "held-out loss, nats/token", "loss_opt"),
        "n_params": ("Compute-optimal size", "parameters without embeddings, N*", "n_opt"),
        "tokens": ("Compute-optimal length", "training tokens, D*", "tokens_opt"),
    }
    title, label, minimum = names[quantity]
    axes = new_axes(title, "training FLOPs, C", label)
    compute = np.array([o.flops for o in fits.frontier])
    if len(compute):
        values = [getattr(o, quantity) for o in fits.frontier]
        axes.plot(compute, [v.value for v in values], "-", color=BLUE, label="L(N, D) fit")
        axes.fill_between(
            compute, [v.low for v in values], [v.high for v in values], color=BLUE, alpha=0.15, lw=0
        )
    if fits.isoflop:
        for p in fits.isoflop.profiles:
            v = getattr(p, minimum)
            if p.problem or not np.isfinite(v.value):
                continue
            error = [[max(0.0, v.value - v.low)], [max(0.0, v.high - v.value)]]
            axes.errorbar(p.budget, v.value, yerr=error, fmt="o", color=ORANGE, capsize=3)
        power = getattr(fits.isoflop, law)
        exponent = power.exponent
        x = compute if len(compute) else np.array(power.x_range)
        axes.plot(
            x,
            power.predict(x),
            "--",
            color=ORANGE,
            label=f"IsoFLOP minima: C$^{{{exponent.value:.3f}}}$ "
            f"[{exponent.low:.3f}, {exponent.high:.3f}]",
        )
    if quantity == "loss":
        for r, loss in zip(fits.table.flops, fits.table.loss, strict=True):
            axes.plot(r, loss, ".", color=GREY, ms=3, zorder=0)
        if forecast:
            p = forecast["predicted_loss"]
            error = [[p["value"] - p["low"]], [p["high"] - p["value"]]]
            axes.errorbar(
                forecast["flops"],
                p["value"],
                yerr=error,
                fmt="s",
                color=GREEN,
                mfc="none",
                capsize=4,
                label="forecast, sealed before the run",
            )
        if holdout and holdout.loss is not None:
            axes.plot(
                holdout.flops_exact,
                holdout.loss,
                "*",
                color=RED,
                ms=13,
                label="held-out run",
                zorder=5,
            )
        loss_ticks(axes)
    else:
        axes.yaxis.set_major_formatter(matplotlib.ticker.LogFormatterSciNotation())
        if fits.envelope:
            column = getattr(fits.envelope, quantity)
            axes.plot(fits.envelope.flops, column, ".", color=GREY, ms=3, label="envelope")
    axes.legend(fontsize=8)
    return axes
