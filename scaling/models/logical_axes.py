"""Where arrays lie, by the names of their axes: models say names, whoever builds the program says where.

Outside of `placed_by`, on one device and under plain data parallelism, nothing is placed and programs are as written.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence

import jax
from jax.sharding import NamedSharding

Place = Callable[[Sequence[str | None]], NamedSharding]
_place: contextvars.ContextVar[Place | None] = contextvars.ContextVar("place", default=None)


@contextlib.contextmanager
def placed_by(place: Place | None) -> Iterator[None]:
    """While a program is traced, `place` maps the names of an array's axes to its sharding."""
    token = _place.set(place)
    try:
        yield
    finally:
        _place.reset(token)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
    """`x`, laid out as the names of its axes say."""
    place = _place.get()
    return x if place is None else jax.lax.with_sharding_constraint(x, place(names))


def by_device(
    function: Callable[..., jax.Array], *arrays: jax.Array, names: Sequence[str | None]
) -> jax.Array:
    """`function` of each device's own part of `arrays`, whose axes and the result's have these names.

    For kernels that the compiler cannot split; axes without a name are whole on every device.
    """
    place = _place.get()
    if place is None:
        return function(*arrays)
    where = place(names)
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return jax.shard_map(
        function,
        mesh=where.mesh,
        axis_names=set(where.mesh.axis_names).difference(manual),
        in_specs=(where.spec,) * len(arrays),
        out_specs=where.spec,
        check_vma=False,  # a kernel does not say how its result varies over devices
    )(*arrays)


def by_rows(
    function: Callable[..., jax.Array], rows: Sequence[jax.Array], shared: Sequence[jax.Array]
) -> jax.Array:
    """`function(*rows, *shared)` of each device's own part of `rows`, whose first axes are batch and positions, as
    the result's are; its products may still be split along the axes of `shared`.

    For what mixes tokens only to put them in another order, which the compiler would do over all devices.
    """
    place = _place.get()
    if place is None:
        return function(*rows, *shared)
    where = place(("batch", "sequence", None))
    axes = [(a,) if isinstance(a, str) else a or () for a in where.spec]
    split = {name for group in axes for name in group}
    if all(where.mesh.shape[name] == 1 for name in split):
        return function(*rows, *shared)
    whole = jax.sharding.PartitionSpec()
    return jax.shard_map(
        function,
        mesh=where.mesh,
        axis_names=split,
        in_specs=(where.spec,) * len(rows) + (whole,) * len(shared),
        out_specs=where.spec,
        check_vma=False,  # as above
    )(*rows, *shared)


def gathered(w: jax.Array, *names: str) -> jax.Array:
    """A parameter where it is used: whole along "embed", so that weights move and not activations."""
    return constrain(w, *("width" if name == "embed" else name for name in names))


def splits(name: str) -> bool:
    """Whether an axis of that name is split."""
    place = _place.get()
    return place is not None and any(place((name,)).spec)
