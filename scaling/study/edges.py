"""Suggest the config change that measures beyond an optimum at the edge of a compute sweep."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from scaling.analysis.saved_curve import Analysis
from scaling.config import load as config_lib
from scaling.sweep.plan import planner
from scaling.utils.errors import UserError

MORE = 2  # rungs that a suggestion adds
NO_SIZE = {  # advice where no change of one or two keys adds a size beyond the edge
    "low": "start another sweep with a smaller config.sweep.width_multiple",
    "high": "raise config.sweep.rungs, or lower the budgets that are too large for this ladder",
}


def suggest(analysis: Analysis, config: ConfigDict) -> list[str]:
    """Add `change`, the keys to change and their values, to every edge in the curves' JSON.

    Returns a line of the summary for each edge. The suggested config is a growth of the sweep
    unless the edge is the ladder's smallest rung.
    """
    curve = analysis.curves.get("isoflop")
    edges: list[dict[str, Any]] = curve.law.get("edges", []) if curve else []
    lines = []
    for edge in edges:
        edge["change"] = _change(edge, config)
        advice = " ".join(f"--config.{key}={value}" for key, value in edge["change"].items())
        which = {"low": "smallest", "high": "largest"}[edge["side"]]
        fix = f"{_where(edge['change'])} {advice}" if advice else NO_SIZE[edge["side"]]
        lines.append(
            f"  at the edge: {edge['budget']:.3g} FLOPs, the {which} size is the best; {fix}"
        )
    return lines


def _change(edge: dict[str, Any], config: ConfigDict) -> dict[str, int]:
    """Return the first change that adds a size beyond the edge.

    Below the smallest rung that is another ladder, and {} if its width cannot be halved.
    """
    sizes, rungs = config.sweep.sizes_per_budget, config.sweep.rungs
    more: tuple[dict[str, int], ...] = (
        {"sweep.sizes_per_budget": sizes + MORE},
        {"sweep.rungs": rungs + MORE},
        {"sweep.sizes_per_budget": sizes + MORE, "sweep.rungs": rungs + MORE},
        {"sweep.sizes_per_budget": sizes + 2 * MORE, "sweep.rungs": rungs + 2 * MORE},
        {"sweep.sizes_per_budget": rungs},
    )
    before = _sizes(config, edge["budget"])
    for values in more:
        try:
            after = _sizes(config_lib.with_values(config, values), edge["budget"])
        except UserError:  # the ladder has no such rungs
            continue
        kept = before and after and set(before) <= set(after)
        beyond = min(after) < min(before) if edge["side"] == "low" else max(after) > max(before)
        if kept and beyond:
            return values
    width, multiple = config.sweep.min_width, config.sweep.width_multiple
    smaller = width // 2 // multiple * multiple
    return {"sweep.min_width": smaller} if edge["side"] == "low" and smaller else {}


def _where(change: dict[str, int]) -> str:
    """Return how to make a change: another smallest width makes another ladder."""
    return "start another sweep with" if "sweep.min_width" in change else "grow the sweep with"


def _sizes(config: ConfigDict, budget: float) -> list[int]:
    return [run.n_params for run in planner.plan(config) if run.budget == budget]
