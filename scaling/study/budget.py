"""Refuse a sweep whose remaining runs cost more than a limit, before any of them starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from scaling import results
from scaling.analysis import conditions
from scaling.study import cost as cost_lib
from scaling.study import holdout
from scaling.study.cost import Cost
from scaling.sweep.execute import growth
from scaling.sweep.execute.snapshot import ENDED, Snapshot
from scaling.sweep.plan import planner
from scaling.sweep.plan.planner import PlannedRun
from scaling.utils import machine, units
from scaling.utils.errors import UserError

SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
MONEY = ("usd", "eur")  # both stand for the currency of the price


@dataclass(frozen=True)
class Limit:
    """The most that the remaining runs may cost."""

    kind: str  # flops | seconds | money
    value: float
    flag: str  # the flag with its value, for errors


def parse(text: str) -> Limit:
    """Return the limit of `--budget=text`, the old spelling of --flops, --time and --usd.

    FLOPs ("1e15"), time ("90s", "30min", "2h", "3d") or money ("20usd"). Raises UserError.
    """
    match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)", text.strip().lower())
    flag = f"--budget={text}"
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    unit = match[2] if match else ""
    if 0 < value < float("inf"):
        if unit in ("", "flop", "flops"):
            return Limit("flops", value, flag)
        if unit in SECONDS:
            return Limit("seconds", value * SECONDS[unit], flag)
        if unit in MONEY:
            return Limit("money", value, flag)
    raise UserError(f"{flag}: no amount; give --flops=1e15, --time=2h (90s, 10m, 3d) or --usd=20")


def check(
    config: ConfigDict,
    limits: Sequence[Limit],
    workdir: Path | None,
    *,
    runs: list[PlannedRun] | None = None,
    cost: Cost | None = None,
    with_holdout: bool = False,
) -> None:
    """Raise UserError if the runs without a result exceed a limit, with the numbers.

    `runs`: the plan, if the caller has it. `cost`: its forecast, if the caller has it; otherwise a
    limit in time or money measures the time. `with_holdout`: add the held-out run. Its time follows
    from the mean rate of the runs left, or of all trained runs if none is left.
    """
    price = config.launch.price_per_device_hour
    for limit in limits:
        if limit.kind == "money" and not price:
            raise UserError(
                f"{limit.flag}: config.launch.price_per_device_hour is not set; set it to the "
                "price of an hour"
            )
    if not limits:
        return
    runs = planned(config, workdir) if runs is None else runs
    snapshot = _look(config, runs, workdir)
    holdout = _holdout_flops(config, snapshot) if with_holdout else 0.0
    unfinished = [r for r in snapshot.runs if r.state not in ENDED]
    if not unfinished and not holdout:
        return
    if any(limit.kind != "flops" for limit in limits):
        machine.start_jax(config.parallel.cpu_devices)
        if unfinished and cost is None:
            cost = cost_lib.forecast(config, runs, snapshot)
    for limit in limits:
        if limit.kind == "flops":
            _compare(
                limit, snapshot, {r.run_id: r.left for r in unfinished}, snapshot.left, holdout
            )
            continue
        rate = price * machine.device_count() / 3600 if limit.kind == "money" else 1.0
        seconds = cost.seconds if cost else 0.0
        per_flop = seconds / snapshot.left if snapshot.left else _seconds_per_flop(workdir)
        each = {k: rate * s for k, s in cost.run_seconds.items()} if cost else {}
        _compare(limit, snapshot, each, rate * seconds, rate * holdout * per_flop)


def _compare(
    limit: Limit, snapshot: Snapshot, each: dict[str, float], total: float, holdout: float
) -> None:
    """Raise UserError if `total` and the held-out run, in the limit's unit, exceed the limit.

    `each`: run_id -> its part of the total.
    """
    if total + holdout <= limit.value:
        return
    show = {
        "flops": lambda x: f"{x:.3g} FLOPs",
        "seconds": units.duration,
        "money": lambda x: f"{x:,.2f}",
    }[limit.kind]
    if not each:
        raise UserError(
            f"{limit.flag}: the held-out run is left and needs {show(holdout)}; raise the limit, "
            "or set config.laws.holdout_factor=None"
        )
    left = f"{len(each)} of {len(snapshot.runs)} runs are left"
    if holdout:
        left += " and the held-out run"
    smallest = min(each, key=lambda k: each[k])
    if each[smallest] > limit.value:
        left += f"; even the smallest, {smallest}, needs {show(each[smallest])}"
    raise UserError(
        f"{limit.flag}: {left}; together they need {show(total + holdout)}; raise the limit, or "
        "plan less in config.sweep"
    )


def planned(config: ConfigDict, workdir: Path | None = None) -> list[PlannedRun]:
    """Return the sweep's runs, here those of a workdir, or the one run of a config without a sweep.

    Raises UserError if the workdir holds a sweep that cannot grow to this one.
    """
    if config.sweep.kind == "none":
        return [planner.plan_run(config)]
    return growth.planned(config, workdir)


def forecast(config: ConfigDict, runs: list[PlannedRun], workdir: Path | None) -> Cost:
    """Measure the cost of the runs. Write `cost.json` if `workdir` is given."""
    cost = cost_lib.forecast(config, runs, _look(config, runs, workdir))
    if workdir is not None:
        cost_lib.write(cost, workdir)
    return cost


def _look(config: ConfigDict, runs: list[PlannedRun], workdir: Path | None) -> Snapshot:
    """Return the state of the plan. Raises UserError if the workdir belongs to another sweep."""
    if workdir is not None and (workdir / "sweep.json").is_file():
        growth.compare(config, workdir)
    return cost_lib.look(config, runs, workdir)


def _holdout_flops(config: ConfigDict, snapshot: Snapshot) -> float:
    """Return the FLOPs of the held-out run, or 0 without one or if it has ended."""
    if config.sweep.kind not in holdout.WITH_FORECAST or not config.laws.holdout_factor:
        return 0.0
    if conditions.two_prices(config) or any(
        r.role == "holdout" and r.status in ENDED for r in snapshot.others
    ):
        return 0.0
    return config.laws.holdout_factor * max(config.sweep.budgets)


def _seconds_per_flop(workdir: Path | None) -> float:
    """Return the mean seconds per FLOP of the trained runs of a workdir, 0 without any."""
    rows = results.collect(workdir)[0] if workdir else []
    flops = sum(r.flops_spent for r in rows)
    return sum(r.wall_time for r in rows) / flops if flops else 0.0
