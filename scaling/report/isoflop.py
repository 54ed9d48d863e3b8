"""Draw IsoFLOP profiles, their minima and the power laws of the optimum through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scaling.laws.isoflop import IsoflopFit, Profile
from scaling.laws.seeds import repeats
from scaling.laws.table import Table
from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

CURVE_POINTS = 100
BEYOND = 3.0  # the laws extend beyond the minima by this factor
QUANTITIES = {
    "n_params": ("n_opt", "n_opt", "N*"),
    "tokens": ("tokens_opt", "tokens_opt", "D*"),
    "loss": ("loss_opt", "frontier", "L*"),
}  # column -> (interval of a profile, power law, symbol)


def profiles(
    fit: IsoflopFit | None, table: Table, labels: Mapping[str, str] | None = None
) -> Picture:
    """Return loss against size at every budget.

    Series: `run`, `profile`, and `minimum` if it is interior. If seeds repeat a size, `seeds` has
    their mean, standard deviation `sd` and `count`. A refused fit, None, leaves the runs alone.
    """
    fitted = fit.profiles if fit else ()
    budgets = [p.budget for p in fitted] or np.unique(table.budget[table.budget > 0])
    rows = table.rows(np.isin(table.budget, budgets))
    series: dict[str, dict] = {
        "run": {
            "run_id": np.array(rows.names),
            "budget": rows.budget,
            "n_params": rows.n_params,
            "tokens": rows.tokens,
            "flops": rows.flops,
            "loss": rows.loss,
        }
    }
    points = repeats([rows.budget, rows.n_params], rows.loss)
    if (points.count_P > 1).any():
        series["seeds"] = {
            "budget": rows.budget[points.first_P],
            "n_params": rows.n_params[points.first_P],
            "loss": points.mean_P,
            "sd": points.sd_P,
            "count": points.count_P,
        }
    drawn = [p for p in fitted if np.isfinite(p.coefficients).all()]
    grids = [_between(p.log_points[0]) for p in drawn]
    series["profile"] = {
        "budget": np.repeat([p.budget for p in drawn], CURVE_POINTS),
        "n_params": np.concatenate([np.empty(0), *grids]),
        "loss": np.concatenate(
            [np.empty(0), *(p.curve(n) for p, n in zip(drawn, grids, strict=True))]
        ),
    }
    series["minimum"] = _minima(fitted, good=True)
    return Picture(
        stacked(series),
        partial(draw_profiles, confidence=fit.n_opt.confidence if fit else None, labels=labels),
    )


def draw_profiles(
    columns: Columns, confidence: float | None, labels: Mapping[str, str] | None
) -> Axes:
    """Draw the runs, curves and minima of every budget in one colour each."""
    axes = style.new_axes(
        "IsoFLOP profiles", style.label("n_params", labels), style.label("loss", labels)
    )
    runs, curves, best = (part(columns, s) for s in ("run", "profile", "minimum"))
    budgets = np.unique(runs["budget"])
    for budget, colour in zip(budgets, style.shades(len(budgets)), strict=False):
        run_rows, curve_rows = runs["budget"] == budget, curves["budget"] == budget
        axes.plot(
            runs["n_params"][run_rows], runs["loss"][run_rows], "o", color=colour, ms=4.5,
            mec="white", mew=0.4, label=f"{budget:.3g} FLOPs",
        )  # fmt: skip
        axes.plot(
            curves["n_params"][curve_rows], curves["loss"][curve_rows], "-", color=colour, lw=1.2
        )
    seeds = part(columns, "seeds")
    if len(seeds["loss"]):
        axes.errorbar(
            seeds["n_params"], seeds["loss"], yerr=np.nan_to_num(seeds["sd"]), fmt="none",
            ecolor="0.3", elinewidth=1, capsize=2.5, zorder=4, label="mean and s.d. of seeds",
        )  # fmt: skip
    axes.errorbar(
        best["n_params"], best["loss"], xerr=_bars(best, "n_params"), fmt="*", color=style.RED,
        ms=9, mec="white", mew=0.5, capsize=2, elinewidth=1, zorder=5,
        label=None if confidence is None else f"minimum, {confidence:.0%} interval of N*",
    )  # fmt: skip
    style.loss_ticks(axes)
    style.log_ticks(axes, most=8)
    if len(budgets) > 6:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        axes.legend()
    return axes


def optimum(fit: IsoflopFit, labels: Mapping[str, str] | None = None) -> Picture:
    """Return N*, D* and L* against compute: series `minimum`, `bad minimum` and `law`."""
    series = {"minimum": _minima(fit.profiles, good=True)}
    if any(p.problem for p in fit.profiles):
        series["bad minimum"] = _minima(fit.profiles, good=False)
    low, high = fit.n_opt.x_range
    flops = np.geomspace(low / BEYOND, high * BEYOND, 41)
    law: dict[str, np.ndarray] = {"budget": flops}
    exponents = {}
    for column, (_, name, symbol) in QUANTITIES.items():
        power = getattr(fit, name)
        ends = [power.predict_interval(c, power.confidence) for c in flops]
        law[column] = power.predict(flops)
        law[f"{column}_low"] = np.array([i.low for i in ends])
        law[f"{column}_high"] = np.array([i.high for i in ends])
        exponents[column] = f"{symbol} ∝ {style.power('C', power.exponent)}"
    series["law"] = law
    return Picture(
        stacked(series),
        partial(draw_optimum, titles=exponents, labels=labels),
    )


def draw_optimum(
    columns: Columns, titles: Mapping[str, str], labels: Mapping[str, str] | None
) -> Figure:
    """Draw a panel per quantity, with its power law and the minima."""
    figure, axes = style.panels(3, width=style.WIDTH * 1.3, height=3.0)
    best, bad, law = (part(columns, s) for s in ("minimum", "bad minimum", "law"))
    for panel, name in zip(axes, QUANTITIES, strict=True):
        panel.fill_between(
            law["budget"],
            law[f"{name}_low"],
            law[f"{name}_high"],
            color=style.BLUE,
            alpha=0.2,
            lw=0,
        )
        panel.plot(law["budget"], law[name], "-", color=style.BLUE, label="power law")
        panel.errorbar(
            best["budget"], best[name], yerr=_bars(best, name), fmt="o", color=style.RED, ms=4.5,
            capsize=2, elinewidth=1, label="minimum",
        )  # fmt: skip
        if np.isfinite(bad[name]).any():
            panel.plot(bad["budget"], bad[name], "x", color=style.GREY, label="left out")
        panel.set(xscale="log", yscale="log", xlabel=style.label("flops", labels))
        panel.set_ylabel(style.starred(name, labels))
        panel.set_title(titles[name], fontsize=9)
        style.log_ticks(panel, "x", most=4)
        (style.loss_ticks if name == "loss" else style.log_ticks)(panel, "y")
    axes[0].legend(loc="upper left")
    return figure


def _between(log_n: np.ndarray) -> np.ndarray:
    """Return `[CURVE_POINTS]` sizes from the smallest to the largest, never outside of them.

    A spline is undefined beyond its ends, so rounding must not pass them.
    """
    steps = np.linspace(log_n[0], log_n[-1], CURVE_POINTS)
    return np.exp(np.clip(steps, log_n[0] + 1e-12, log_n[-1] - 1e-12))


def _minima(fitted: Sequence[Profile], *, good: bool) -> dict[str, np.ndarray]:
    minima = [p for p in fitted if bool(p.problem) != good]
    columns = {"budget": np.array([p.budget for p in minima])}
    for column, (name, _, _) in QUANTITIES.items():
        for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
            columns[column + end] = np.array([getattr(getattr(p, name), key) for p in minima])
    return columns


def _bars(points: Columns, name: str) -> np.ndarray:
    """Return `[2, points]`: error bars below and above, 0 if the interval excludes its value."""
    value = points[name]
    sides = np.stack([value - points[f"{name}_low"], points[f"{name}_high"] - value])
    return np.where(np.isfinite(sides), np.maximum(sides, 0.0), 0.0)
