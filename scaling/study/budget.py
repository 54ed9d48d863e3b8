"""`--budget`: refuses a sweep whose remaining runs cost more than was allowed, before any of them starts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.analysis import compute
from scaling.config import constraints
from scaling.study import cost as cost_lib
from scaling.study.cost import Cost
from scaling.sweep.execute.snapshot import ENDED, Snapshot
from scaling.sweep.plan import planner
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.shared import sweep_json
from scaling.utils import machine, units
from scaling.utils.errors import UserError

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
MONEY = ("usd", "eur")  # both stand for the currency of the price


@dataclass(frozen=True)
class Budget:
    """An amount of one thing."""

    kind: str  # flops | seconds | money
    value: float
    text: str  # as it was given


def parse(text: str) -> Budget:
    """FLOPs ("1e15"), time ("90s", "30min", "2h", "3d") or money ("20usd"). Raises UserError."""
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    unit = match[2] if match else ""
    if 0 < value < float("inf"):
        if unit in ("", "flop", "flops"):
            return Budget("flops", value, text)
        if unit in SECONDS:
            return Budget("seconds", value * SECONDS[unit], text)
        if unit in MONEY:
            return Budget("money", value, text)
    raise UserError(
        f"--budget={text}: no amount; give FLOPs (1e15), time (90s, 30min, 2h, 3d) or money (20usd)"
    )


def check(
    config: ConfigDict,
    text: str,
    workdir: Path | None,
    *,
    runs: list[PlannedRun] | None = None,
    cost: Cost | None = None,
    with_holdout: bool = False,
) -> None:
    """Raises UserError where the runs without a result exceed the budget `text`, with the numbers.

    `runs`: the plan, where it is at hand; `cost`: its forecast, else it is measured where the budget
    is not in FLOPs; `with_holdout`: the held-out run counts too, in time at the mean rate of the rest, or of
    what has been trained where nothing else is left.
    """
    allowed = parse(text)
    price = config.launch.price_per_device_hour
    if allowed.kind == "money" and not price:
        raise UserError(
            f"--budget={text}: config.launch.price_per_device_hour is 0; set the price of an hour"
        )
    runs = planned(config) if runs is None else runs
    now = _look(config, runs, workdir)
    left = [r for r in now.runs if r.state not in ENDED]
    more = _holdout_flops(config, now) if with_holdout else 0.0
    if not left and not more:
        return
    if allowed.kind == "flops":
        rate, show = 1.0, lambda x: f"{x:.3g} FLOPs"
        each = {r.run_id: r.left for r in left}
        total = now.left + more
    else:
        machine.start_jax(config.parallel.cpu_devices)
        rate = price * machine.device_count() / 3600 if allowed.kind == "money" else 1.0
        show = units.duration if allowed.kind == "seconds" else lambda x: f"{x:,.2f}"
        each, seconds = {}, 0.0
        if left:
            cost = cost or cost_lib.forecast(config, runs, now)
            each = {k: rate * s for k, s in cost.run_seconds.items()}
            seconds = cost.seconds
        per_flop = seconds / now.left if now.left else _seconds_per_flop(workdir)
        total = rate * (seconds + more * per_flop)
    if total <= allowed.value:
        return
    if not left:
        raise UserError(
            f"--budget={text}: the held-out run is left and needs {show(total)}; raise it, or set "
            "config.laws.holdout_factor=0"
        )
    what = f"{len(left)} of {len(now.runs)} runs are left"
    if more:
        what += " and the held-out run"
    smallest = min(each, key=lambda k: each[k])
    if each[smallest] > allowed.value:
        what += f", of which even the smallest, {smallest}, needs {show(each[smallest])}"
    raise UserError(
        f"--budget={text}: {what}; together they need {show(total)}; raise it, or plan less in "
        "config.sweep"
    )


def planned(config: ConfigDict) -> list[PlannedRun]:
    """The sweep's runs, or the one run of a config without a sweep."""
    return [planner.plan_run(config)] if config.sweep.kind == "none" else planner.plan(config)


def forecast(config: ConfigDict, runs: list[PlannedRun], workdir: Path | None) -> Cost:
    """Measure, print the table, and write `cost.json` where there is a workdir."""
    now = _look(config, runs, workdir)
    cost = cost_lib.forecast(config, runs, now)
    for line in cost_lib.lines(cost):
        print(line)
    if workdir is not None:
        print(f"written to {cost_lib.write(cost, workdir)}")
    return cost


def _look(config: ConfigDict, runs: list[PlannedRun], workdir: Path | None) -> Snapshot:
    """What is done of the plan. Raises UserError where the workdir belongs to another sweep."""
    if workdir is not None and (workdir / "sweep.json").is_file():
        sweep_json.create_or_check(config, workdir)  # writes nothing where there is a sweep.json
    return cost_lib.look(config, runs, workdir)


def _holdout_flops(config: ConfigDict, now: Snapshot) -> float:
    """FLOPs of the held-out run, 0 where there is none or it has been trained."""
    if config.sweep.kind not in constraints.WITH_FORECAST or not config.laws.holdout_factor:
        return 0.0
    if compute.two_prices(config) or any(
        r.role == "holdout" and r.status in ENDED for r in now.others
    ):
        return 0.0
    return config.laws.holdout_factor * max(config.sweep.budgets)


def _seconds_per_flop(workdir: Path | None) -> float:
    """Of all that was trained in a workdir; 0 where nothing was."""
    rows = results.collect(workdir)[0] if workdir else []
    flops = sum(r.flops_spent for r in rows)
    return sum(r.wall_time for r in rows) / flops if flops else 0.0
