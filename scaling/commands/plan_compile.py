"""Compile each program of a plan ahead of time for its mesh: one row per program."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from scaling.commands.output import Output, Table
from scaling.programs import ahead_of_time, backend, roofline, train_step
from scaling.programs.ahead_of_time import Compiled
from scaling.programs.roofline import Estimate, Speeds
from scaling.sweep.plan.planner import PlannedRun
from scaling.utils import units

OPTIONAL = ("collectives per step", "params", "optimizer", "temporary", "batch")


def simulate(devices: int) -> None:
    """Make jax take this host's CPU for so many devices. Call it before jax looks at them."""
    import jax

    from scaling.utils import machine

    jax.config.update("jax_platforms", "cpu")
    machine.start_jax(devices)


def device_count() -> int:
    """Return the number of devices, real or simulated."""
    import jax

    return jax.device_count()


def output(
    runs: Sequence[PlannedRun], given: dict[str, float], simulated: bool
) -> tuple[Output, str]:
    """Compile the programs. Return (the table, why one does not fit its devices or "")."""
    speeds = roofline.speeds(**given)
    groups: dict[str, list[PlannedRun]] = {}
    for one in runs:
        groups.setdefault(train_step.program_key(one.values), []).append(one)
    programs: list[tuple[Compiled, list[PlannedRun]]] = []
    with tqdm(
        total=len(groups), desc="compiling", unit="program", disable=None, file=sys.stderr
    ) as bar:
        for members in groups.values():
            programs.append((ahead_of_time.compiled(members[0].config), members))
            bar.update()
    rows = [_row(program, members, speeds) for program, members in programs]
    notes = [*_notes(programs, speeds, simulated), choices(programs)]
    refusals = [
        line for _, members in programs if (line := ahead_of_time.refusal(members[0].config))
    ]
    more = f" (and {len(refusals) - 1} programs more)" if len(refusals) > 1 else ""
    table = Table("Compiled programs", rows, OPTIONAL, {"FLOPs": ".2e", "compiled": ".2e"})
    content = {"programs": rows, "program_notes": notes}
    return Output(content, [table], notes), refusals[0] + more if refusals else ""


def _notes(
    programs: Sequence[tuple[Compiled, Sequence[PlannedRun]]], speeds: Speeds, simulated: bool
) -> list[str]:
    """Return what the columns mean."""
    first = programs[0][0]
    devices = f"{first.devices} simulated devices" if simulated else f"{first.devices} devices"
    backend_note = f"compiled by the {first.backend.upper()} backend for {devices}"
    if simulated:
        backend_note += "; another backend fuses, keeps and sends other amounts"
    return [
        f"{backend_note}. Bytes are of one device, FLOPs and bytes sent of one device and step.",
        "FLOPs by shapes (convention exact) and as the compiler counts them (- where loops lie "
        "within a step).",
        _largest([program for program, _ in programs]),
        *_times(programs, speeds),
    ]


def choices(programs: Sequence[tuple[Compiled, Sequence[PlannedRun]]]) -> str:
    """Return what "auto" stands for in these programs."""
    counted = Counter(
        str(backend.choose(runs[0].config, program.mesh)) for program, runs in programs
    )
    parts = [f"{choice} ({n} of {len(programs)} programs)" for choice, n in counted.items()]
    return f"Chosen: {'; '.join(parts if len(counted) > 1 else counted)}."


def _row(program: Compiled, members: Sequence[PlannedRun], speeds: Speeds) -> dict[str, Any]:
    values = members[0].values
    kinds = ", ".join(
        f"{total.count:g} {kind} {units.size(total.bytes)}"
        for kind, total in program.totals.items()
    )
    axes = " x ".join(f"{axis} {size}" for axis, size in program.mesh.items() if size > 1)
    return {
        "width": values["model.width"],
        "depth": values["model.depth"],
        "batch": values["train.batch_size"],
        "n_params": program.n_params,
        "runs": len(members),
        "params": units.size(program.parts["params"]),
        "optimizer": units.size(program.parts["optimizer"]),
        "temporary": units.size(program.temporary),
        "total": units.size(program.total),
        "FLOPs": program.flops,
        "compiled": program.flops_compiled,
        "sent": units.size(program.sent),
        "least time": _time(roofline.estimate(program, speeds)),
        "collectives per step": f"{kinds or 'none'} ({axes or 'one device'})",
    }


def _time(estimate: Estimate | None) -> str:
    return f"{estimate.seconds * 1e3:.3g} ms {estimate.bound}" if estimate else "-"


def _largest(programs: Sequence[Compiled]) -> str:
    """Return what fills the memory in the program that needs most of it."""
    largest = max(programs, key=lambda program: program.total)
    parts = ", ".join(f"{name} {units.size(n)}" for name, n in largest.parts.items())
    return f"The largest total, by shapes: {parts}."


def _times(programs: Sequence[tuple[Compiled, Sequence[PlannedRun]]], speeds: Speeds) -> list[str]:
    """Return what bounds the least time of a step, and the least time of all runs."""
    estimates = [(roofline.estimate(program, speeds), members) for program, members in programs]
    if not speeds.peak_flops:
        return [
            "No time, since the peak of these devices is not known: give --peak_flops, "
            "--memory_bandwidth, --bandwidth."
        ]
    parts = [f"FLOPs / {speeds.peak_flops:.3g} FLOP/s"]
    if speeds.memory_bandwidth and any(program.traffic is not None for program, _ in programs):
        parts.append(f"bytes in memory / {speeds.memory_bandwidth:.3g} B/s")
    if speeds.bandwidth:
        parts.append(f"bytes sent / {speeds.bandwidth:.3g} B/s")
    seconds = sum(e.seconds * sum(run.steps for run in members) for e, members in estimates if e)
    return [
        f"Least time of a step: the largest of {', '.join(parts)}, named after what bounds it; all "
        f"runs one after another take at least {units.duration(seconds)}."
    ]
