"""Constrain how arrays lie on devices by the names of their axes.

Models name axes; the program's builder maps names to shardings with `use_layout`. Without it, on
one device and under plain data parallelism, nothing is constrained and programs are as written.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence

import jax
from jax.sharding import NamedSharding

Layout = Callable[[Sequence[str | None]], NamedSharding]  # names of an array's axes -> its sharding
_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def use_layout(layout: Layout | None) -> Iterator[None]:
    """Trace the body's programs under `layout`; None constrains nothing."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """Lay `x` out as the names of its axes state."""
    layout = _layout.get()
    return x if layout is None else jax.lax.with_sharding_constraint(x, layout(names))


def by_device(
    function: Callable[..., jax.Array], *arrays: jax.Array, names: Sequence[str | None]
) -> jax.Array:
    """Call `function` on each device's own part of `arrays`; they and the result have these axes.

    For kernels that the compiler cannot split; axes without a name are whole on every device.
    """
    layout = _layout.get()
    if layout is None:
        return function(*arrays)
    sharding = layout(names)
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return jax.shard_map(
        function,
        mesh=sharding.mesh,
        axis_names=set(sharding.mesh.axis_names).difference(manual),
        in_specs=(sharding.spec,) * len(arrays),
        out_specs=sharding.spec,
        check_vma=False,  # a kernel does not say how its result varies over devices
    )(*arrays)


def by_rows(
    function: Callable[..., jax.Array], rows: Sequence[jax.Array], shared: Sequence[jax.Array]
) -> jax.Array:
    """Call `function(*rows, *shared)` on each device's own part of `rows`.

    The first axes of `rows` and of the result are batch and positions. Products inside may still be
    split along the axes of `shared`. For code that only reorders tokens, which the compiler would
    reorder over all devices.
    """
    layout = _layout.get()
    if layout is None:
        return function(*rows, *shared)
    sharding = layout(("batch", "sequence", None))
    axes = [(a,) if isinstance(a, str) else a or () for a in sharding.spec]
    split = {name for group in axes for name in group}
    if all(sharding.mesh.shape[name] == 1 for name in split):
        return function(*rows, *shared)
    whole = jax.sharding.PartitionSpec()
    return jax.shard_map(
        function,
        mesh=sharding.mesh,
        axis_names=split,
        in_specs=(sharding.spec,) * len(rows) + (whole,) * len(shared),
        out_specs=sharding.spec,
        check_vma=False,  # as above
    )(*rows, *shared)


def gathered(w: jax.Array, *names: str) -> jax.Array:
    """Gather a parameter along "embed" where it is used: weights move, activations do not."""
    return constrain(w, *("width" if name == "embed" else name for name in names))


def splits(name: str) -> bool:
    """Return whether an axis of that name is split."""
    layout = _layout.get()
    return layout is not None and any(layout((name,)).spec)
