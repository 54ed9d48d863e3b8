"""Bound the time of a step from below on devices of stated speed (Williams et al. 2009).

    seconds = max(FLOPs / peak, bytes read and written / memory bandwidth, bytes sent / bandwidth)

all per device. It assumes that computing, memory and network overlap in full. An unknown one of the
three is left out, and the bound is lower still.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax

from scaling.programs.ahead_of_time import Compiled
from scaling.utils import devices


@dataclass(frozen=True)
class Speeds:
    """Speeds of one device; 0 for an unknown one."""

    peak_flops: float  # FLOP/s
    memory_bandwidth: float  # bytes/s
    bandwidth: float  # bytes/s that it sends


@dataclass(frozen=True)
class Estimate:
    """The least time of one step, and its bound: "compute", "memory" or "network"."""

    seconds: float
    bound: str


def speeds(
    peak_flops: float = 0.0, memory_bandwidth: float = 0.0, bandwidth: float = 0.0
) -> Speeds:
    """Return the given speeds, and this machine's for those that are 0."""
    known = devices.of_kind(jax.devices()[0].device_kind)
    peak, memory, network = (known.bf16, known.bandwidth, known.network) if known else (0.0,) * 3
    return Speeds(peak_flops or peak, memory_bandwidth or memory, bandwidth or network)


def estimate(program: Compiled, at: Speeds) -> Estimate | None:
    """Return the bound of a program; None if the peak is not known."""
    if not at.peak_flops:
        return None
    times = {"compute": program.flops / at.peak_flops}
    if at.memory_bandwidth and program.traffic is not None:
        times["memory"] = program.traffic / at.memory_bandwidth
    if at.bandwidth:
        times["network"] = program.sent / at.bandwidth
    bound = max(times, key=lambda name: times[name])
    return Estimate(times[bound], bound)
