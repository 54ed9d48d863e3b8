"""Plan for devices that are not here: speed, price, memory and kernels, without compiling."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict
from tqdm import tqdm

from scaling.commands.output import Output, Table
from scaling.config import load as config_lib
from scaling.programs import backend, memory, train_step
from scaling.study.budget import Limit
from scaling.sweep.plan.planner import PlannedRun
from scaling.utils import devices, units
from scaling.utils.devices import Device
from scaling.utils.errors import UserError

MOST_DEVICES = 4096  # jax describes so many in seconds, and twice as many in four times as long
GPU_SHARE = 0.75  # of a GPU's memory, which JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says
OPTIONAL = ("batch", "logits", "gradients", "params")
FLAGS = ("device", "count", "price", "mfu")
HERE = ("compile", "measure", "devices", "workdir", "memory_bandwidth", "bandwidth")


@dataclass(frozen=True)
class Target:
    """Devices to plan for."""

    device: Device | None  # None where flags state the peak alone
    count: int
    peak_flops: float  # FLOP/s of one device
    precision: str  # of the products behind it
    mfu: float
    price: float | None  # of one device and hour

    @property
    def name(self) -> str:
        return f"{self.count} x {self.device.name if self.device else 'device as stated'}"

    @property
    def speed(self) -> float:
        """FLOP/s of all devices at the assumed share of their peak."""
        return self.count * self.peak_flops * self.mfu

    def dollars(self, seconds: float) -> float | None:
        """Return the price of all devices for `seconds`; None without a price."""
        return seconds / 3600 * self.count * self.price if self.price is not None else None


def wanted(args: argparse.Namespace) -> bool:
    """Return whether the flags name other devices than those of this machine."""
    return any(getattr(args, name) is not None for name in FLAGS)


def target(args: argparse.Namespace, config: ConfigDict) -> Target:
    """Return the devices of the flags. Raises UserError at flags that do not belong together."""
    device = devices.named(args.device) if args.device else None
    for name in HERE:
        if value := getattr(args, name):
            raise UserError(
                f"--{name}={value} is for this machine, and --device, --count, --price and --mfu "
                "plan for another; leave one out"
            )
    if not device and not args.peak_flops:
        raise UserError(
            "--device is missing: --count, --price and --mfu need it, or --peak_flops of one device"
        )
    count = args.count or 1
    if count > MOST_DEVICES:
        raise UserError(f"--count={count}: no more than {MOST_DEVICES:,} devices are planned for")
    mfu = args.mfu or config.sweep.assumed_mfu
    if mfu > 1:
        raise UserError(f"--mfu={mfu:g} is a share of the peak; give a number from 0 to 1")
    dtype = config.model.dtype
    peak, precision = device.peak(dtype) if device else (0.0, dtype)
    if args.peak_flops:
        peak, precision = args.peak_flops, "as stated"
    price = config.launch.price_per_device_hour if args.price is None else args.price
    return Target(device, count, peak, precision, mfu, price)


def output(config: ConfigDict, runs: Sequence[PlannedRun], at: Target) -> tuple[Output, str]:
    """Return (memory by program with notes on the devices, why a program does not fit or "")."""
    groups: dict[str, list[PlannedRun]] = {}
    for one in runs:
        groups.setdefault(train_step.program_key(one.values), []).append(one)
    rows, refusals, kernels = [], [], set()
    allowed, limit = _memory(config, at)
    fits: dict[str, dict[str, Any]] = {}
    bar = tqdm(groups.values(), desc="describing", unit="program", disable=None, file=sys.stderr)
    for members in bar:
        row, choice, remedy = _program(members, at, allowed)
        rows.append(row)
        kernels.add(choice)
        fact = {"memory_bytes": row.pop("bytes"), "fits": row["fits"] if allowed else None}
        fits |= {run.run_id: fact for run in members}
        if row["fits"] == "no":
            refusals.append(
                f"{limit}: width {row['width']}, depth {row['depth']} at batch {row['batch']} "
                f"needs about {row['total']} ({row['runs']} runs); {remedy}"
            )
    table = Table("Memory of one device", rows, OPTIONAL)
    notes = [*_notes(config, at, limit), f"Kernels: {'; '.join(sorted(kernels))}."]
    more = f" (and {len(refusals) - 1} programs more)" if len(refusals) > 1 else ""
    content = {
        "plan_device": _facts(at, allowed),
        "memory": rows,
        "memory_by_run": fits,
        "device_notes": notes,
    }
    return Output(content, [table], notes), refusals[0] + more if refusals else ""


def check(at: Target, limits: Sequence[Limit], seconds: float, flops: float) -> None:
    """Raise UserError if the plan exceeds a limit."""
    for limit in limits:
        value = {"flops": flops, "seconds": seconds, "money": at.dollars(seconds)}[limit.kind]
        if value is None:
            raise UserError(f"{limit.flag}: no price of an hour is known; give --price")
        if value > limit.value:
            shown = units.duration(value) if limit.kind == "seconds" else f"{value:,.4g}"
            unit = " FLOPs" if limit.kind == "flops" else ""
            raise UserError(
                f"{limit.flag}: the plan needs {shown}{unit} on {at.name}; raise the limit, or "
                "plan less in config.sweep"
            )


def _program(
    members: Sequence[PlannedRun], at: Target, allowed: float
) -> tuple[dict[str, Any], str, str]:
    """Return (a row of the table, the kernels, the keys to change) of a program."""
    config = members[0].config
    described = config_lib.with_values(config, {"model.attention": "plain"})  # runs anywhere
    programs = train_step.programs(described)  # traced, not compiled
    choice = ""
    if at.device:
        chosen = backend.choose(config, programs.mesh.shape, at.device)
        choice = str(chosen)
        described = config_lib.with_values(config, {"model.attention": chosen.attention})
    sizes = memory.parts(described, programs)
    total = memory.estimate(described, programs, sizes)
    row = {
        "width": config.model.width,
        "depth": config.model.depth,
        "batch": config.train.batch_size,
        "runs": len(members),
        **{name: units.size(sizes[name]) for name in ("params", "optimizer", "gradients")},
        "activations": units.size(sizes["activations"] + sizes["gathered weights"]),
        "logits": units.size(sizes["logits"]),
        "total": units.size(total),
        "fits": ("yes" if total <= allowed else "no") if allowed else "not known",
        "bytes": total,
    }
    return row, choice or "not known", memory.remedies(described, programs, sizes)


def _memory(config: ConfigDict, at: Target) -> tuple[float, str]:
    """Return (bytes that one device may hold, their source); (0, "") if they are not known."""
    if config.parallel.device_memory_gb != "auto":
        stated = config.parallel.device_memory_gb
        return stated * 1e9, f"config.parallel.device_memory_gb={stated:g}"
    if not at.device:
        return 0.0, ""
    share = GPU_SHARE if at.device.platform == "gpu" else 1.0
    part = f", of which JAX takes {share:.0%}" if share < 1 else ""
    return share * at.device.memory, f"{at.device.name} has {units.size(at.device.memory)}{part}"


def _notes(config: ConfigDict, at: Target, limit: str) -> list[str]:
    lines = [
        f"{config.model.dtype} on {at.name}: {at.peak_flops / 1e12:,.4g} TFLOP/s each "
        f"({at.precision}), at an assumed {at.mfu:.0%} of it; --mfu sets that share.",
        "Large language models reached 21% to 46% (Chowdhery et al. 2022, table 3). Small models "
        "reach less, and waiting for data, evaluations and checkpoints come on top.",
        "Memory by shapes, within 15% of float32 programs compiled for CPUs; "
        + (f"{limit}." if limit else "the device's is not known."),
    ]
    if limit and "JAX takes" in limit:
        lines[-1] += " XLA_PYTHON_CLIENT_MEM_FRACTION changes that share."
    if at.device:
        lines.append(f"Peaks and memory of {at.device.name}: {at.device.source}")
    return lines


def _facts(at: Target, allowed: float) -> dict[str, Any]:
    return {
        "device": at.device.name if at.device else None,
        "count": at.count,
        "peak_flops": at.peak_flops,
        "precision": at.precision,
        "mfu": at.mfu,
        "price": at.price,
        "memory_bytes": at.device.memory if at.device else None,
        "usable_bytes": allowed or None,
        "source": at.device.source if at.device else None,
    }
