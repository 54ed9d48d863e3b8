"""Programs that train several runs of one shape side by side, the run axis spread over the devices.

Shapes: R runs, K steps of one dispatch, B rows per step.
"""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from scaling.programs import backend
from scaling.programs.interface import Programs
from scaling.programs.step_functions import StepFunctions


def make_mesh(runs: int) -> Mesh:
    """Return the mesh of all devices along the axis "run".

    Raises ValueError if `runs` is no multiple of their number.
    """
    devices = jax.local_devices()
    if runs % len(devices):
        raise ValueError(f"{runs} runs do not spread evenly over {len(devices)} devices")
    return Mesh(np.asarray(devices), ("run",), axis_types=(AxisType.Auto,))


def packed(functions: StepFunctions, mesh: Mesh, runs: int) -> Programs:
    """Return the programs of `runs` runs; each lives whole on one device."""
    by_run, everywhere = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("run",), ()))
    alone = SingleDeviceSharding(mesh.devices.flat[0])

    def join(states):
        return jax.tree.map(
            lambda *leaves: jax.device_put(np.stack([np.asarray(x) for x in leaves]), by_run),
            *states,
        )

    def split(state):
        on_host = jax.device_get(state)
        return [
            jax.tree.map(lambda x, r=r: jax.device_put(x[r], alone), on_host) for r in range(runs)
        ]

    train = jax.jit(
        _over_runs(functions.train, mesh),
        donate_argnums=0,
        in_shardings=by_run,
        out_shardings=by_run,
    )
    return Programs(
        mesh=mesh,
        runs=runs,
        state_like=jax.tree.map(
            lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=alone),
            jax.eval_shape(functions.init, 0),
        ),
        init=jax.jit(functions.init, out_shardings=alone, compiler_options=backend.quick()),
        train=train,
        readings=jax.jit(
            _over_runs(functions.readings, mesh, shared=1),
            in_shardings=(by_run, everywhere),
            out_shardings=by_run,
        ),
        join=join,
        split=split,
        batch=lambda batch_RKB: jax.device_put(batch_RKB, by_run),
        share=(0, 1),
        jitted=train,
    )


def _over_runs(function, mesh: Mesh, shared: int = 0):
    """`function` over a leading run axis of all but its last `shared` arguments."""
    axis = backend.run_axis()

    def local(*args):
        own, common = args[: len(args) - shared], args[len(args) - shared :]
        if axis == "vmap":
            return jax.vmap(lambda *x: function(*x, *common))(*own)
        return jax.lax.map(lambda x: function(*x, *common), own)

    def apply(*args):
        specs = [PartitionSpec("run")] * (len(args) - shared) + [PartitionSpec()] * shared
        return jax.shard_map(
            local, mesh=mesh, in_specs=tuple(specs), out_specs=PartitionSpec("run"),
            check_vma=False,  # runs share nothing, so no replication to check
        )(*args)  # fmt: skip

    return apply
