"""Make the device mesh of the config's `parallel` section.

Axes, the slowest links first: "replica" repeats the axes inside it, for groups of hosts or pods
that a slower network joins; "data" and "fsdp" split the batch, and "fsdp" the state too; "sequence"
splits positions, "tensor" heads, MLP and vocabulary. Neighbours of the last axis are neighbours in
`jax.devices()`, which orders a host's devices together.
"""

from __future__ import annotations

import math

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from scaling.utils.errors import UserError

AXES = ("replica", "data", "fsdp", "sequence", "tensor")
BATCH_AXES = ("replica", "data", "fsdp")


def make_mesh(parallel, devices=None) -> Mesh:
    """Return the mesh of the config's `parallel` section over `devices` (default: all).

    Raises UserError if the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = axis_sizes(parallel, len(devices))
    grid = np.asarray(devices).reshape(tuple(sizes.values()))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def axis_sizes(parallel, n_devices: int) -> dict[str, int]:
    """Return the size of each axis, -1 replaced by the remaining devices.

    Raises UserError if several are -1, or if the sizes do not multiply to `n_devices`.
    """
    sizes = {axis: parallel[axis] for axis in AXES}
    named = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1) or "data=1"
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    bad = [axis for axis, size in sizes.items() if size < 1 and size != -1]
    if bad:
        raise UserError(
            f"config.parallel.{bad[0]}={sizes[bad[0]]} should be 1 or more, or -1 for all "
            "remaining devices"
        )
    if len(open_axes) > 1:
        raise UserError(
            f"config.parallel: {' and '.join(open_axes)} are all -1; one axis can take the "
            f"remaining devices, set {open_axes[0]}=1"
        )
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if open_axes and n_devices % fixed == 0:
        return {**sizes, open_axes[0]: n_devices // fixed}
    if fixed != n_devices or open_axes:
        raise UserError(
            f"config.parallel: {named} does not make the {n_devices} devices of this machine"
            f"{_fix(sizes, n_devices)}"
        )
    return sizes


def _fix(sizes: dict[str, int], n_devices: int) -> str:
    """Name the smallest change of one axis that makes the sizes fit; "" if none does."""
    changes = []
    for axis, size in sizes.items():
        rest = math.prod(s for a, s in sizes.items() if a != axis and s != -1)
        has_rest = any(s == -1 for a, s in sizes.items() if a != axis)
        if size == -1 or n_devices % rest or (axis == "replica" and size == 1):
            continue
        left = n_devices // rest
        fits = divisors(left) if has_rest else [left]
        best = min(fits, key=lambda fit: abs(math.log(fit / size)))
        if best != size:
            changes.append((abs(math.log(best / size)), axis, best))
    if not changes:
        return ""
    _, axis, best = min(changes, key=lambda change: change[0])
    return f"; {axis}={best} would"


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]
