"""Tables of `scaling plan`: what each run costs alone and here, and what was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from scaling import accounting
from scaling.commands import plan_compile
from scaling.commands.output import Output, Table
from scaling.commands.plan_device import Target
from scaling.config import field_traits
from scaling.config.flat_dict import view
from scaling.programs import train_step
from scaling.recipes import describe
from scaling.study import cost as cost_lib
from scaling.study.cost import Cost
from scaling.sweep.execute import jobs
from scaling.sweep.plan import halving, ladder
from scaling.sweep.plan.planner import PlannedRun
from scaling.sweep.plan.run_recipe import RunRecipe
from scaling.utils import machine, units

OPTIONAL = ("total", "here", "seed", "batch", "steps", "budget")
FORMATS = {"lr": ".2e", "FLOPs": ".2e", "here": ".2e", "budget": ".2e", "eps": ".2e"}
IF_VARIED = ("weight_decay", "eps", "beta1", "beta2")  # columns of config.optim


@dataclass(frozen=True)
class Speed:
    """The devices behind the times of a plan."""

    peak: float  # FLOP/s of all devices
    mfu: float  # assumed share of it
    device: str
    target: Target | None = None  # devices that are not here


def here(config: ConfigDict, peak_flops: float = 0.0) -> Speed:
    """Return the speed of this machine, or of its devices with `peak_flops` each."""
    mfu = config.sweep.assumed_mfu
    if peak_flops:
        n_devices = plan_compile.device_count()
        return Speed(n_devices * peak_flops, mfu, f"{n_devices} devices as stated")
    return Speed(machine.peak_flops(config.model.dtype), mfu, machine.device_name())


def elsewhere(at: Target) -> Speed:
    """Return the speed of devices that are not here."""
    return Speed(at.count * at.peak_flops, at.mfu, at.name, at)


def output(
    config: ConfigDict, runs: list[PlannedRun], on: Speed, further: Sequence[str] = ()
) -> Output:
    """Return the runs of a plan, with times at a speed, prices where known and `further` notes."""
    share = config.launch.share_trunks and config.sweep.kind != "none"
    parts = jobs.runs_by_id(runs, share)
    peak, device, at = on.peak, on.device, on.target
    speed, unit = peak * on.mfu, field_traits.UNITS[config.data.field]
    rows = [_row(run, parts[run.run_id], unit, speed) for run in runs]
    same = {key for key in IF_VARIED if len({row[key] for row in rows}) < 2}
    empty = same if any(row["note"] for row in rows) else {*same, "note"}
    rows = [{k: v for k, v in row.items() if k not in empty} for row in rows]
    alone, here = sum(r.flops for r in runs), sum(part.flops for part in parts.values())
    shared = f" ({here / alone:.0%} of separate runs, by shared trunks)" if here < alone else ""
    notes = [
        f"{len(runs)} runs, {here:.3g} FLOPs{shared}, about {units.duration(here / speed)} at "
        f"{on.mfu:.0%} of {peak / 1e9:,.0f} GFLOP/s ({device})"
    ]
    notes += further
    dollars = at.dollars(here / speed) if at else None
    if at:
        paid = f"; {dollars:,.2f} dollars at {at.price:g} each" if dollars is not None else ""
        hours = here / speed / 3600
        notes.append(f"{hours:,.3g} hours, {hours * at.count:,.3g} device-hours{paid}")
    elif machine.on_cpu():
        notes.append(_not_counted(runs))
    trained, whole = halving.saving(runs)
    if trained < whole:
        notes.append(
            f"successive halving leaves {trained:.3g} of these FLOPs, about "
            f"{units.duration(trained / speed)}"
        )
    held_out = 0.0
    if config.laws.holdout_factor and config.sweep.kind == "compute" and config.sweep.budgets:
        held_out = config.laws.holdout_factor * max(config.sweep.budgets)
        seconds = units.duration(held_out / speed)
        price = at.dollars(held_out / speed) if at else None
        paid = f", {price:,.2f} dollars" if price is not None else ""
        notes.append(f"held-out run: {held_out:.3g} FLOPs, about {seconds}{paid} more")
    if merged := ladder.merged(config):
        notes.append(merged)
    recipe = RunRecipe(config)
    notes += recipe.notes(runs)
    if config.sweep.kind == "none" and config.sweep.recipe:
        notes.append(
            f"config.sweep.recipe={config.sweep.recipe!r} sets nothing of a single run; choose a "
            "config.sweep.kind"
        )
    content = {
        "runs": [
            {"run_id": run.run_id, **row, "time": parts[run.run_id].flops / speed}
            for run, row in zip(runs, rows, strict=True)
        ],
        "flops": here,
        "flops_alone": alone,
        "seconds": here / speed,
        "hours": here / speed / 3600,
        "dollars": dollars,
        "peak_flops": peak,
        "device": device,
        "holdout_flops": held_out,
        "recipe": describe.as_dict(recipe.recipe) if recipe.recipe else None,
        "notes": notes,
    }
    varied = {"batch"} if len({row["batch"] for row in rows}) > 1 and recipe.recipe else set()
    optional = tuple(column for column in OPTIONAL if column not in varied)
    return Output(content, [Table("Runs", rows, optional, FORMATS)], notes)


def _not_counted(runs: list[PlannedRun]) -> str:
    """Return what a plan for CPUs leaves out, as measured with configs/quickstart.py."""
    programs = len({train_step.program_key(run.values) for run in runs})
    return (
        f"not counted: compiling {programs} programs (about 10 s each), evaluations, checkpoints; "
        "widths below 64 take 1.5 to 3 times as long; --measure times real steps"
    )


def _row(run: PlannedRun, part: jobs.JobRun, unit: str, speed: float) -> dict[str, Any]:
    c = view(run.values)
    fork = f"forks from {part.trunk} at step {part.fork_step:,}" if part.trunk else ""
    return {
        "budget": run.budget or None,
        "width": c.model.width,
        "depth": c.model.depth,
        "n_params": run.n_params,
        "total": accounting.param_counts(accounting.shape_of(c))["n_params_total"],
        unit: run.tokens,
        "steps": run.steps,
        "batch": c.train.batch_size,
        "lr": c.optim.lr,
        **{key: getattr(c.optim, key) for key in IF_VARIED},
        "seed": c.seed,
        "FLOPs": run.flops,
        "here": part.flops,
        "time": units.duration(part.flops / speed),
        "note": "; ".join(filter(None, (_architecture(c.model), run.note, fork))),
    }


def _architecture(model) -> str:
    """Return what differs from the dense Transformer, "" if nothing does."""
    kind = "" if model.kind == "transformer" else model.kind
    routed = f"{model.experts_per_token} of {model.experts} experts" if model.experts else ""
    return ", ".join(filter(None, (kind, routed)))


def cost(measured: Cost, workdir: Path | None) -> Output:
    """Return the measured cost of what is left."""
    notes = cost_lib.sums(measured)
    if workdir is not None:
        notes.append(f"written to {workdir / 'cost.json'}")
    formats = {"MFU": ".1%", "compile_s": ".1f", "evaluate_s": ".2f", "checkpoint_s": ".2f"}
    table = Table("Measured sizes", cost_lib.rows(measured), formats=formats)
    return Output({"cost": dataclasses.asdict(measured)}, [table], notes)
