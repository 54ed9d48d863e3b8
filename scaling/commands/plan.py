"""`scaling plan`: the runs of a config, what each costs alone and here, and what they cost together."""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from scaling import accounting
from scaling.commands import plan_compile, plan_flags
from scaling.config import constraints
from scaling.config.flat_dict import view
from scaling.study import budget
from scaling.sweep.execute import jobs
from scaling.sweep.plan import halving
from scaling.utils import machine, units


def _architecture(model) -> str:
    """What of it is not the dense Transformer, "" for that."""
    kind = "" if model.kind == "transformer" else model.kind
    routed = f"{model.experts_per_token} of {model.experts} experts" if model.experts else ""
    return ", ".join(filter(None, (kind, routed)))


def run(args, config: ConfigDict, workdir: Path | None) -> int:
    """Print the table; with --compile the programs', with --measure the measured costs, and with --budget
    refuse what exceeds it."""
    devices, speeds = plan_flags.devices(args), plan_flags.speeds(args)
    if devices:
        plan_compile.simulate(devices)
    else:
        machine.start_jax(config.parallel.cpu_devices)
    single = config.sweep.kind == "none"
    runs = budget.planned(config)
    parts = jobs.runs_by_id(runs, config.launch.share_trunks and not single)
    peak, on = machine.peak_flops(), machine.device_name()
    if speeds["peak_flops"]:
        n_devices = plan_compile.device_count()
        peak, on = n_devices * speeds["peak_flops"], f"{n_devices} devices as stated"
    speed = peak * config.sweep.assumed_mfu
    print(
        f"{'budget':>9} {'width':>5} {'depth':>5} {'n_params':>11} {'total':>11} {constraints.UNITS[config.data.field]:>13} "
        f"{'steps':>7} {'batch':>5} {'lr':>9} {'seed':>4} {'FLOPs':>9} {'here':>9} {'time':>9}"
    )
    for r in runs:
        c, part = view(r.values), parts[r.run_id]
        counts = accounting.param_counts(accounting.shape_of(c))
        asked = f"{r.budget:9.2e}" if r.budget else f"{'-':>9}"
        fork = f"forks from {part.trunk} at step {part.fork_step:,}" if part.trunk else ""
        note = "; ".join(filter(None, (_architecture(c.model), r.note, fork)))
        print(
            f"{asked} {c.model.width:5} {c.model.depth:5} {r.n_params:11,} "
            f"{counts['n_params_total']:11,} {r.tokens:13,} {r.steps:7,} {c.train.batch_size:5} "
            f"{c.optim.lr:9.2e} {c.seed:4} {r.flops:9.2e} {part.flops:9.2e} "
            f"{units.duration(part.flops / speed):>9}{'  ' if note else ''}{note}"
        )
    alone, here = sum(r.flops for r in runs), sum(part.flops for part in parts.values())
    shared = f" ({here / alone:.0%} of separate runs, by shared trunks)" if here < alone else ""
    print(
        f"{len(runs)} runs, {here:.3g} FLOPs{shared}, about {units.duration(here / speed)} at "
        f"{config.sweep.assumed_mfu:.0%} of {peak / 1e9:,.0f} GFLOP/s ({on})"
    )
    trained, whole = halving.saving(runs)
    if trained < whole:
        print(
            f"successive halving leaves {trained:.3g} of these FLOPs, about "
            f"{units.duration(trained / speed)}"
        )
    if config.laws.holdout_factor and config.sweep.kind == "compute" and config.sweep.budgets:
        flops = config.laws.holdout_factor * max(config.sweep.budgets)
        print(f"held-out run: {flops:.3g} FLOPs, about {units.duration(flops / speed)} more")
    if args.compile:
        plan_compile.run(runs, speeds, simulated=bool(devices))
    cost = budget.forecast(config, runs, workdir) if args.measure else None
    if args.budget:
        budget.check(config, args.budget, workdir, runs=runs, cost=cost)
    return 0
