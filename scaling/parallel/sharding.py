"""Map logical axes to mesh axes, and arrays with named axes to their shardings.

Models only name the axes of their parameters and activations. A strategy is the sizes of the mesh
axes (`config.parallel`, see `mesh.py`) under these rules; `config.parallel.rules` replaces single
ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from scaling import accounting
from scaling.config.field_traits import LABELLED
from scaling.models.parameters import ParamInfo
from scaling.parallel.mesh import AXES, BATCH_AXES
from scaling.utils.errors import UserError
from scaling.utils.suggest import nearest

Rules = Mapping[str, str | None]  # logical axis -> mesh axis; None: not split

RULES: dict[str, str | None] = {
    # parameters; "embed" is their model width, gathered where they are used
    "embed": "fsdp",
    "positions": None,
    "patch": None,
    "classes": None,
    "layers": None,
    # parameters and activations
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "head_dim": None,
    "qkv": None,
    "gate": None,
    "state": "tensor",  # of a linear recurrence, whose channels do not mix
    "cell": None,  # of an LSTM, whose channels mix at every step
    "experts": None,
    "gates": None,
    "parts": None,
    "taps": None,
    "window": None,
    # activations; the batch is split by all of BATCH_AXES
    "width": None,
    "sequence": "sequence",
    "keys": None,  # positions that all queries see
}


# Axes that only models of one kind have.
OF_KIND: dict[str, tuple[str, ...]] = {
    "transformer": ("heads", "head_dim", "qkv"),
    "lstm": ("cell", "gates"),
    "lru": ("state", "parts"),
    "cnn": ("taps",),
    "mlp": ("window",),
}


def rules(parallel) -> dict[str, str | None]:
    """RULES with those of `config.parallel.rules`, pairs of a logical axis and a mesh axis or "".

    Raises UserError if a pair names an unknown axis.
    """
    merged = dict(RULES)
    for pair in parallel.rules:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise UserError(
                f'config.parallel.rules: {pair!r} should be two names, ("mlp", "tensor")'
            )
        logical, axis = pair
        for name, known, kind in (
            (logical, RULES, "logical axis"),
            (axis, (*AXES, ""), "mesh axis"),
        ):
            if name not in known:
                raise UserError(
                    f"config.parallel.rules: {pair!r}: no {kind} {name!r}; {_nearest(name, known)}"
                )
        merged[logical] = axis or None
    return merged


def _nearest(name, known) -> str:
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else f"choose one of {', '.join(filter(None, known))}"


def spec(axes, rules: Rules, mesh: Mesh | AbstractMesh, rows=BATCH_AXES) -> PartitionSpec:
    """Return the partition of an array with these logical axes. `rows` split the axis "batch".

    A mesh axis splits one axis of an array: if two ask for it, the first gets it.
    """
    used: set[str] = set()
    parts: list = []
    for name in axes:
        axis = None if name is None else rows if name == "batch" else rules[name]
        single = (axis,) if isinstance(axis, str) else axis or ()
        if used.intersection(single) or math.prod(mesh.shape[a] for a in single) == 1:
            axis, single = None, ()
        used.update(single)
        parts.append(axis)
    return PartitionSpec(*parts)


def check_divides(config, rules: Rules, mesh: Mesh) -> None:
    """Raise UserError if a size does not divide over its part of the mesh."""
    m, micro = config.model, config.train.accumulate
    rows = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    named = _sizes(mesh, [axis for axis in BATCH_AXES if mesh.shape[axis] > 1] or ["data"])
    if micro > 1:
        times = f"{named} of config.parallel times config.train.accumulate={micro}"
        _divides("train.batch_size", config.train.batch_size, rows * micro, times)
    for key in ("train.batch_size", "eval.batch_size"):
        _divides(key, config[key.split(".")[0]].batch_size, rows, f"{named} of config.parallel")

    context = ("data.seq_len", config.data.seq_len)
    if config.data.field in LABELLED:
        context = ("data.height x width in patches", accounting.shape_of(config).seq_len)
    width = "model.width", m.width
    heads = ("model.width / model.head_dim", m.width // m.head_dim)
    for key in ("heads", "kv_heads"):  # key-value heads divide the others
        heads = (f"model.{key}", m[key]) if m[key] else heads
    sizes = {
        "embed": width,
        "width": width,
        "heads": heads,
        "state": width,
        "cell": width,
        "experts": ("model.experts", m.experts),
        "mlp": ("model.mlp_width", m.mlp_width),
        "vocab": ("data.vocab_size", config.data.vocab_size),
        "sequence": context,
        "keys": context,
        "positions": context,
        "layers": ("model.depth", m.depth),
        "head_dim": ("model.head_dim", m.head_dim),
    }
    absent = {axis for kind, axes in OF_KIND.items() if kind != m.kind for axis in axes}
    if not m.experts:
        absent.add("experts")
    if config.data.field in LABELLED:
        absent.add("vocab")
    for name, axis in rules.items():
        if axis is None or mesh.shape[axis] == 1 or name in absent:
            continue
        if name not in sizes:  # such as query, key, value; gate and input
            raise UserError(
                f"config.parallel.rules: {(name, axis)}: {axis}={mesh.shape[axis]} cannot split "
                f"the few of {name!r}; leave it whole, {(name, '')}"
            )
        key, value = sizes[name]
        multiple = m.head_dim if key == "model.width" and m.kind == "transformer" else 1
        over = f"{_sizes(mesh, [axis])} of config.parallel"
        _divides(key, value, mesh.shape[axis], over, multiple)


def _sizes(mesh: Mesh, axes) -> str:
    return " x ".join(f"{axis}={mesh.shape[axis]}" for axis in axes)


def _divides(key: str, value: int, parts: int, over: str, multiple: int = 1) -> None:
    if value % parts:
        fits = math.lcm(parts, multiple)
        near = max(fits, round(value / fits) * fits)
        raise UserError(
            f"config.{key}={value} does not divide over {parts} shards, {over}; the nearest that "
            f"does is {near}"
        )


def named_sharding(axes, rules: Rules, mesh: Mesh) -> NamedSharding:
    """Return the sharding of an activation by its logical axes, also in `defer_allreduce`."""
    traced = jax.sharding.get_abstract_mesh()
    if not traced.manual_axes:
        return NamedSharding(mesh, spec(axes, rules, mesh))
    rows = tuple(axis for axis in BATCH_AXES if axis not in traced.manual_axes)
    return NamedSharding(traced, spec(axes, rules, traced, rows))


def defer_allreduce(means: Callable, mesh: Mesh) -> Callable:
    """Wrap `means(params, batch_B)`, a tree of means over rows, so that devices add up once at its
    end.

    Otherwise the compiler adds up the gradients of every micro-batch over all devices. It is left
    to do so if "fsdp" or "sequence" also split the tokens: within such a group it would gather
    activations for the gradient of the embedding (jax 0.10).
    """
    outer = tuple(axis for axis in ("replica", "data") if mesh.shape[axis] > 1)
    if not outer or mesh.shape["fsdp"] * mesh.shape["sequence"] > 1:
        return means

    def own(params, batch_B):
        return jax.lax.pmean(means(params, batch_B), outer)

    return jax.shard_map(
        own,
        mesh=mesh,
        axis_names=set(outer),
        in_specs=(PartitionSpec(), PartitionSpec(outer)),
        out_specs=PartitionSpec(),
        check_vma=False,  # else gradients are summed where they arise
    )


def param_shardings(infos, mesh: Mesh, rules: Rules = RULES):
    """Return a tree of shardings in the shape of `infos`, a tree of `ParamInfo`."""

    def of(info: ParamInfo) -> NamedSharding:
        return NamedSharding(mesh, spec(info.axes, rules, mesh))

    return jax.tree.map(of, infos)


def optimizer_state_shardings(state, params, shardings, otherwise: NamedSharding):
    """Return a tree of shardings in the shape of an optimizer's `state`.

    An array with the path and the shape of a parameter in a tree like `params` is sharded as that
    parameter, by `shardings`; all else, counters and factors of moments, as `otherwise`.
    """
    paths = jax.tree_util.tree_leaves_with_path(params)
    by_path = dict(zip((path for path, _ in paths), jax.tree.leaves(shardings), strict=True))
    shapes = {path: leaf.shape for path, leaf in paths}

    def of(path, leaf) -> NamedSharding:
        ends = (path[i:] for i in range(len(path)))  # the longest first
        param = next((end for end in ends if end in shapes), None)
        return by_path[param] if param and shapes[param] == leaf.shape else otherwise

    return jax.tree_util.tree_map_with_path(of, state)


def needs_layout(mesh: Mesh) -> bool:
    """Return whether the mesh splits more than the batch. Programs then constrain activations."""
    return any(mesh.shape[a] > 1 for a in AXES if a not in ("replica", "data"))


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """(k, n): this process holds the k-th of n equal parts of a batch's rows.

    Processes that "sequence" or "tensor" span hold the same rows. Raises UserError if a process's
    rows are not contiguous.
    """
    shards = math.prod(mesh.shape[a] for a in BATCH_AXES)
    spans = batch_sharding(mesh).addressable_devices_indices_map((shards,)).values()
    rows = sorted({range(shards)[span[0]].start for span in spans if span})
    if rows != list(range(rows[0], rows[0] + len(rows))) or rows[0] % len(rows):
        raise UserError(
            f"config.parallel: {_sizes(mesh, AXES)} scatters the rows of one process; let sequence "
            "x tensor divide its devices"
        )
    return rows[0] // len(rows), shards // len(rows)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Sharding of [..., B, T] with `leading` unsharded axes in front of B."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, BATCH_AXES))
