"""Draw the compute-optimal loss, N* and D* against compute, by all approaches of Hoffmann 2022."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from scaling.report import style
from scaling.report.picture import Columns, Picture, part, stacked

TITLES = {
    "loss": "Compute-optimal loss",
    "n_params": "Compute-optimal size",
    "tokens": "Compute-optimal length",
}
MINIMA = {"loss": "loss_opt", "n_params": "n_opt", "tokens": "tokens_opt"}


def picture(
    fits,
    law: str,
    quantity: str,
    forecast: Mapping[str, Any] | None,
    holdout,
    labels: Mapping[str, str] | None = None,
) -> Picture:
    """Return `quantity` at the optimum against `flops`, with `low` and `high` where known.

    `fits` holds the laws of a sweep. `law` names the quantity's power law in them. Series:
    `chinchilla`, `isoflop minimum`, `bad minimum`, `isoflop law`, `envelope`. The loss also has
    `run`, `forecast` and `held out`.
    """
    compute = np.array([o.flops for o in fits.frontier])
    series: dict[str, dict] = {}
    if len(compute):
        series["chinchilla"] = _intervals(
            compute, [getattr(o, quantity) for o in fits.frontier], quantity
        )
    exponent = None
    if fits.isoflop:
        for name, bad in (("isoflop minimum", False), ("bad minimum", True)):
            chosen = [p for p in fits.isoflop.profiles if bool(p.problem) == bad]
            minima = [getattr(p, MINIMA[quantity]) for p in chosen]
            series[name] = _intervals([p.budget for p in chosen], minima, quantity)
        power = getattr(fits.isoflop, law)
        x = compute if len(compute) else np.array(power.x_range)
        series["isoflop law"] = {"flops": x, quantity: power.predict(x)}
        exponent = power.exponent
    if fits.envelope:
        series["envelope"] = {
            "flops": fits.envelope.flops,
            quantity: getattr(fits.envelope, quantity),
        }
    if quantity == "loss":
        series["run"] = {"flops": fits.table.flops, "loss": fits.table.loss}
        if forecast:
            p = forecast["predicted_loss"]
            series["forecast"] = {
                "flops": forecast["flops"],
                "loss": p["value"],
                "low": p["low"],
                "high": p["high"],
            }
            if holdout and holdout.loss is not None:
                series["held out"] = {"flops": forecast["flops"], "loss": float(holdout.loss)}
    return Picture(
        stacked(series), partial(draw, quantity=quantity, exponent=exponent, labels=labels)
    )


def _intervals(flops, values, quantity: str) -> dict[str, np.ndarray]:
    return {
        "flops": np.array(flops, float),
        quantity: np.array([v.value for v in values], float),
        "low": np.array([v.low for v in values], float),
        "high": np.array([v.high for v in values], float),
    }


def draw(columns: Columns, quantity: str, exponent, labels: Mapping[str, str] | None) -> Axes:
    """Draw the laws, minima and runs of `columns`, with a legend."""
    axes = style.new_axes(
        TITLES[quantity], style.label("flops", labels), style.starred(quantity, labels)
    )
    law = part(columns, "chinchilla")
    if len(law["flops"]):
        axes.plot(law["flops"], law[quantity], "-", color=style.BLUE, label="L(N, D) fit")
        axes.fill_between(law["flops"], law["low"], law["high"], color=style.BLUE, alpha=0.15, lw=0)
    _points(
        axes, part(columns, "isoflop minimum"), quantity, fmt="o", color=style.ORANGE, capsize=3
    )
    power = part(columns, "isoflop law")
    if exponent:
        axes.plot(
            power["flops"],
            power[quantity],
            "--",
            color=style.ORANGE,
            label=f"IsoFLOP minima: {style.power('C', exponent)}",
        )
    if quantity == "loss":
        runs = part(columns, "run")
        axes.plot(runs["flops"], runs["loss"], ".", color=style.GREY, ms=3, zorder=0)
        _points(
            axes, part(columns, "forecast"), "loss", fmt="s", color=style.GREEN, mfc="none",
            capsize=4, label="forecast, sealed before the run",
        )  # fmt: skip
        held_out = part(columns, "held out")
        if len(held_out["flops"]):
            axes.plot(
                held_out["flops"], held_out["loss"], "*", color=style.RED, ms=13, zorder=5,
                label="held-out run",
            )  # fmt: skip
        style.loss_ticks(axes)
    else:
        envelope = part(columns, "envelope")
        if len(envelope["flops"]):
            axes.plot(
                envelope["flops"], envelope[quantity], ".", color=style.GREY, ms=3, label="envelope"
            )
        style.log_ticks(axes, "y")
    style.log_ticks(axes, "x", most=8)
    axes.legend()
    return axes


def _points(axes: Axes, points: Columns, name: str, **kind) -> None:
    """Draw points with error bars, and no bar where the interval is unknown."""
    if not len(points["flops"]):
        return
    value = points[name]
    sides = np.stack([value - points["low"], points["high"] - value])
    bars = np.where(np.isfinite(sides), np.maximum(sides, 0.0), 0.0)
    axes.errorbar(points["flops"], value, yerr=bars, **kind)
