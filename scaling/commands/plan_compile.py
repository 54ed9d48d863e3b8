"""`scaling plan --compile`: one row per program of a plan, compiled ahead of time for its mesh."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from scaling.programs import ahead_of_time, backend, roofline, train_step
from scaling.programs.ahead_of_time import Compiled
from scaling.programs.roofline import Estimate, Speeds
from scaling.sweep.plan.planner import PlannedRun
from scaling.utils import units
from scaling.utils.errors import UserError

COLUMNS = (
    ("width", 5), ("depth", 5), ("batch", 6), ("n_params", 13), ("runs", 6), ("params", 9), ("optimizer", 9),
    ("temporary", 9), ("total", 9), ("FLOPs", 9), ("compiled", 9), ("sent", 9), ("least time", 18),
)  # fmt: skip


def simulate(devices: int) -> None:
    """Have jax take this host's CPU for so many devices; must run before it first looks at them."""
    import jax

    from scaling.utils import machine

    jax.config.update("jax_platforms", "cpu")
    machine.start_jax(devices)


def device_count() -> int:
    """Of this machine, or simulated."""
    import jax

    return jax.device_count()


def run(runs: Sequence[PlannedRun], given: dict[str, float], simulated: bool) -> None:
    """Print the table. Raises UserError where a program does not fit its devices, after the last row."""
    at = roofline.speeds(**given)
    groups: dict[str, list[PlannedRun]] = {}
    for one in runs:
        groups.setdefault(train_step.program_key(one.values), []).append(one)
    found: list[tuple[Compiled, list[PlannedRun]]] = []
    with tqdm(
        total=len(groups), desc="compiling", unit="program", disable=None, file=sys.stderr
    ) as bar:
        for served in groups.values():
            found.append((ahead_of_time.compiled(served[0].config), served))
            bar.update()
    for line in lines(found, at, simulated):
        print(line)
    print(choices(found))
    refused = [line for _, served in found if (line := ahead_of_time.refusal(served[0].config))]
    if refused:
        more = f" (and {len(refused) - 1} programs more)" if len(refused) > 1 else ""
        raise UserError(refused[0] + more)


def lines(
    found: Sequence[tuple[Compiled, Sequence[PlannedRun]]], at: Speeds, simulated: bool
) -> list[str]:
    """The table and what its columns mean."""
    first = found[0][0]
    devices = f"{first.devices} simulated devices" if simulated else f"{first.devices} devices"
    made = f"compiled by the {first.backend.upper()} backend for {devices}"
    if simulated:
        made += "; another backend fuses, keeps and sends other amounts"
    return [
        " ".join(f"{name:>{width}}" for name, width in COLUMNS) + "  collectives per step",
        *(_row(program, served, at) for program, served in found),
        f"{made}. Bytes are of one device, FLOPs and bytes sent of one device and step.",
        "FLOPs by shapes (convention exact) and as the compiler counts them (- where loops lie within a step).",
        _largest([program for program, _ in found]),
        *_times(found, at),
    ]


def choices(found: Sequence[tuple[Compiled, Sequence[PlannedRun]]]) -> str:
    """What "auto" stands for in these programs."""
    counted = Counter(str(backend.choose(runs[0].config, program.mesh)) for program, runs in found)
    parts = [f"{made} ({n} of {len(found)} programs)" for made, n in counted.items()]
    return f"Chosen: {'; '.join(parts if len(counted) > 1 else counted)}."


def _row(program: Compiled, served: Sequence[PlannedRun], at: Speeds) -> str:
    values = served[0].values
    counted = f"{program.flops_compiled:.2e}" if program.flops_compiled is not None else "-"
    cells = (
        values["model.width"], values["model.depth"], values["train.batch_size"],
        f"{program.n_params:,}", len(served), units.size(program.parts["params"]),
        units.size(program.parts["optimizer"]), units.size(program.temporary),
        units.size(program.total), f"{program.flops:.2e}", counted, units.size(program.sent),
        _time(roofline.estimate(program, at)),
    )  # fmt: skip
    row = " ".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, COLUMNS, strict=True))
    kinds = ", ".join(
        f"{total.count:g} {kind} {units.size(total.bytes)}"
        for kind, total in program.totals.items()
    )
    axes = " x ".join(f"{axis} {size}" for axis, size in program.mesh.items() if size > 1)
    return f"{row}  {kinds or 'none'} ({axes or 'one device'})"


def _time(estimate: Estimate | None) -> str:
    return f"{estimate.seconds * 1e3:.3g} ms {estimate.bound}" if estimate else "-"


def _largest(programs: Sequence[Compiled]) -> str:
    """What fills the memory in the program that needs most of it."""
    largest = max(programs, key=lambda program: program.total)
    parts = ", ".join(f"{name} {units.size(n)}" for name, n in largest.parts.items())
    return f"The largest total, by shapes: {parts}."


def _times(found: Sequence[tuple[Compiled, Sequence[PlannedRun]]], at: Speeds) -> list[str]:
    """What the least time of a step is, and that of all runs."""
    estimates = [(roofline.estimate(program, at), served) for program, served in found]
    if not at.peak_flops:
        return [
            "No time, since the peak of these devices is not known: give --peak_flops, --memory_bandwidth, "
            "--bandwidth."
        ]
    parts = [f"FLOPs / {at.peak_flops:.3g} FLOP/s"]
    if at.memory_bandwidth and any(program.traffic is not None for program, _ in found):
        parts.append(f"bytes in memory / {at.memory_bandwidth:.3g} B/s")
    if at.bandwidth:
        parts.append(f"bytes sent / {at.bandwidth:.3g} B/s")
    seconds = sum(e.seconds * sum(run.steps for run in served) for e, served in estimates if e)
    return [
        f"Least time of a step: the largest of {', '.join(parts)}, named after what bounds it; all runs one "
        f"after another take at least {units.duration(seconds)}."
    ]
