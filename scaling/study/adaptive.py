"""Widen a compute sweep where a budget's best size is its smallest or largest."""

from __future__ import annotations

import logging

import numpy as np
from ml_collections import ConfigDict

from scaling.analysis import edges
from scaling.config import load as config_lib
from scaling.laws import api as laws
from scaling.results import RunResult
from scaling.sweep.plan import planner
from scaling.sweep.shared.sweep_json import EXTRA
from scaling.utils.errors import UserError

log = logging.getLogger("scaling")

SIDES = {"low": (-1, "smallest"), "high": (1, "largest")}


def wider(config: ConfigDict, rows: list[RunResult]) -> tuple[ConfigDict, str] | None:
    """Return the config with one more size beyond each edge, and why. None if no edge is left.

    Edges that the ladder or config.sweep.adaptive_share does not let it pass stay, with a warning.
    """
    if not config.sweep.adaptive:
        return None
    planned = {run.run_id for run in planner.plan(config)}
    swept = [r for r in rows if r.run_id in planned and r.status == "done"]
    table = laws.make_table(
        n_params=[r.n_params for r in swept],
        tokens=[r.tokens for r in swept],
        loss=[np.nan if r.loss is None else r.loss for r in swept],
        budget=[r.budget for r in swept],
    )
    first = _flops(config_lib.with_values(config, {EXTRA: ()}))
    reasons: list[str] = []
    for edge in edges.of_budgets(table):
        step, which = SIDES[edge["side"]]
        reason = f"the {which} size was the best at {edge['budget']:g} FLOPs"
        extra = (*config.sweep.extra_sizes, (edge["budget"], step))
        try:
            candidate = config_lib.with_values(config, {EXTRA: extra})
            spent = _flops(candidate) - first
        except UserError as error:
            log.warning("warning: %s; not widened: %s", reason, error)
            continue
        if spent > config.sweep.adaptive_share * first:
            log.warning(
                "warning: %s; not widened, since added runs would cost %.3g FLOPs, more than "
                "config.sweep.adaptive_share=%g of the first plan's",
                reason, spent, config.sweep.adaptive_share,
            )  # fmt: skip
            continue
        config, reasons = candidate, [*reasons, reason]
    return (config, "; ".join(reasons)) if reasons else None


def _flops(config: ConfigDict) -> float:
    return sum(run.flops for run in planner.plan(config))
