"""How arrays lie on a mesh: the rules from logical axes to mesh axes, and what follows from them.

Models only name the axes of their parameters and activations. A strategy is the sizes of the mesh axes
(`config.parallel`, see `mesh.py`) under these rules; `config.parallel.rules` replaces single ones.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scaling.errors import UserError
from scaling.mesh import AXES, BATCH_AXES

RULES: dict[str, str | None] = {
    # parameters; "embed" is their model width, gathered where they are used
    "embed": "fsdp",
    "positions": None,
    "layers": None,
    # parameters and activations
    "heads": "tensor",
    "mlp": "tensor",
    "vocab": "tensor",
    "head_dim": None,
    "qkv": None,
    "gate": None,
    # activations; the batch is split by all of BATCH_AXES
    "width": None,
    "sequence": "sequence",
    "keys": None,  # positions that all queries see
}


def rules(parallel) -> dict[str, str | None]:
    """RULES with those of `config.parallel.rules`, pairs of a logical axis and a mesh axis or "".

    Raises UserError where a pair names an axis that there is not.
    """
    found = dict(RULES)
    for pair in parallel.rules:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise UserError(
                f'config.parallel.rules: {pair!r} should be two names, ("mlp", "tensor")'
            )
        logical, axis = pair
        for name, known, what in (
            (logical, RULES, "logical axis"),
            (axis, (*AXES, ""), "mesh axis"),
        ):
            if name not in known:
                raise UserError(
                    f"config.parallel.rules: {pair!r}: no {what} {name!r}; {_nearest(name, known)}"
                )
        found[logical] = axis or None
    return found


def _nearest(name, known) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return (
        f"do you mean {near[0]!r}?" if near else f"choose one of {', '.join(filter(None, known))}"
    )


def spec(axes, by: Mapping[str, str | None], mesh: Mesh) -> PartitionSpec:
    """The partition of an array whose axes have these logical names; "batch" is split by BATCH_AXES.

    A mesh axis splits one axis of an array: where two ask for it, the first has it.
    """
    used: set[str] = set()
    places: list = []
    for name in axes:
        axis = None if name is None else BATCH_AXES if name == "batch" else by[name]
        single = (axis,) if isinstance(axis, str) else axis or ()
        if used.intersection(single) or math.prod(mesh.shape[a] for a in single) == 1:
            axis, single = None, ()
        used.update(single)
        places.append(axis)
    return PartitionSpec(*places)


def param_shardings(model_state: nnx.State, mesh: Mesh, by: Mapping[str, str | None] = RULES):
    """A tree of shardings in the shape of `model_state`, from the axes its variables name."""

    def of(variable: nnx.Variable) -> NamedSharding:
        return NamedSharding(mesh, spec(variable.get_metadata("out_sharding"), by, mesh))

    return jax.tree.map(of, model_state, is_leaf=lambda x: isinstance(x, nnx.Variable))


def needs_placing(mesh: Mesh) -> bool:
    """Whether anything but the batch is split: then activations are told where they lie."""
    return any(mesh.shape[a] > 1 for a in AXES if a not in ("replica", "data"))


def batch_share(mesh: Mesh) -> tuple[int, int]:
    """(k, n): this process holds the k-th of n equal parts of a batch's rows.

    Processes that "sequence" or "tensor" span hold the same rows. Raises UserError where a process's rows lie apart.
    """
    shards = math.prod(mesh.shape[a] for a in BATCH_AXES)
    spans = batch_sharding(mesh).addressable_devices_indices_map((shards,)).values()
    rows = sorted({range(shards)[span[0]].start for span in spans if span})
    if rows != list(range(rows[0], rows[0] + len(rows))) or rows[0] % len(rows):
        sizes = " x ".join(f"{a}={mesh.shape[a]}" for a in AXES)
        raise UserError(
            f"config.parallel: {sizes} scatters the rows of one process; let sequence x tensor divide its devices"
        )
    return rows[0] // len(rows), shards // len(rows)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Sharding of [..., B, T] with `leading` unsharded axes in front of B."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * leading, BATCH_AXES))
