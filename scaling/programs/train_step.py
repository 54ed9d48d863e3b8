"""The compiled programs of a run: initial state, several training steps per call, evaluation.

Shapes: R runs of one program, K steps of one dispatch, B rows per step. A batch is a tree of arrays
[K, B, ...], for language the one array `tokens_KBT1`; scaling/fields/ says what a row is.

Programs depend on shapes and static choices alone. Learning rate, weight decay, warm-up, horizon and
seed are traced values, so that one compiled program serves every run of one size, and several runs of
one size can train in it side by side (R > 1), each at its own step.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from ml_collections import ConfigDict

from scaling.config.flat_dict import flatten
from scaling.fields import registry as fields
from scaling.models import logical_axes, losses
from scaling.parallel import mesh as meshes
from scaling.parallel import sharding
from scaling.programs import backend, optim

# What the compiled programs depend on: sections or single keys of the config.
PROGRAM_KEYS = (
    "model",
    "data.field",
    "data.vocab_size",
    "data.seq_len",
    "data.height",
    "data.width",
    "data.channels",
    "data.classes",
    "data.mixup",
    "optim.name",
    "optim.beta1",
    "optim.beta2",
    "optim.eps",
    "optim.momentum",
    "optim.clip",
    "optim.label_smoothing",
    "optim.z_loss",
    "optim.focal_gamma",
    "optim.schedule",
    "train.batch_size",
    "train.steps_per_dispatch",
    "train.log_every",
    "train.accumulate",
    "eval.batch_size",
    "parallel",
)


@dataclass(frozen=True)
class Programs:
    """Jitted functions over a state `{"params", "opt"}` of one shape, for R runs on one mesh."""

    mesh: Mesh
    runs: int  # R, 1 where the program trains one run alone
    state_like: Any  # the state of one run as jax.ShapeDtypeStruct with shardings
    init: Any  # seed -> state of one run
    train: Any  # (state, hyper_R, batch_RKB, first_R, begin_R, end_R) -> (state, metrics_RK)
    readings: (
        Any  # (params, batch_B) -> {"loss": summed over each row's targets, ...}, each [R, B, ...]
    )
    join: Callable[[Sequence[Any]], Any]  # states of R runs -> the state that `train` takes
    split: Callable[[Any], list[Any]]  # its inverse
    batch: Callable[[Any], Any]  # this process's batch_RKB onto the mesh
    share: tuple[int, int]  # (k, n): they are the k-th of n parts of the batch
    jitted: Any  # the jitted function behind `train`


def programs(config: ConfigDict, runs: int = 1) -> Programs:
    """The programs for `config`, built once per process for equal shapes.

    With `runs` above 1 they train that many runs at once, the run axis spread over all devices, so
    that no device waits for another; each run then lives on one device and `config.parallel` names
    only how many there are. `runs` must be a multiple of their number.
    """
    key = program_key(config)
    return _programs(key) if runs == 1 else _packed(key, runs)


def program_key(config: ConfigDict | Mapping[str, Any]) -> str:
    """Equal for configs, or flat dicts of them, that the same compiled programs serve."""
    flat = flatten(config) if isinstance(config, ConfigDict) else config
    chosen = {k: v for k, v in flat.items() if k in PROGRAM_KEYS or k.split(".")[0] in PROGRAM_KEYS}
    return json.dumps(chosen, sort_keys=True)


@dataclass(frozen=True)
class _Functions:
    """The pure functions of one run, not yet compiled, and the shapes and axes of its state."""

    init: Callable  # seed -> state
    init_opt: Callable  # params -> opt
    train: Callable  # (state, hyper, batch_KB, first, begin, end) -> (state, metrics_K)
    readings: Callable  # (params, batch_B) -> {name: [B, ...]}
    abstract: Any  # the model's nnx.State as shapes


def _functions(
    c: ConfigDict,
    place: logical_axes.Place | None = None,
    sequence_shards: int = 1,
    apart: Callable[[Callable], Callable] = lambda means: means,
) -> _Functions:
    """`place` lays out what the mesh splits besides the batch, see `models/axes.py`; `apart` wraps the
    sum over micro-batches, see `sharding.apart`."""
    chunk = losses.pick_chunk(
        c.model.loss_chunk,
        vocab_size=c.data.vocab_size,
        seq_len=c.data.seq_len,
        sequence_shards=sequence_shards,
    )

    o = c.optim
    balance = c.model.balance if c.model.experts else 0.0
    terms = losses.LossTerms(o.label_smoothing, o.z_loss, o.focal_gamma, balance)

    field = fields.of(c.data.field)

    def build(seed) -> nnx.Module:
        with nnx.use_eager_sharding(False):
            return field.model(c, nnx.Rngs(params=jax.random.key(seed)))

    graph, abstract = nnx.split(nnx.eval_shape(lambda: build(0)))

    def as_model(params) -> nnx.Module:
        model_state = jax.tree.map(lambda x: x, abstract)  # a copy; the next line writes into it
        nnx.replace_by_pure_dict(model_state, params)
        return nnx.merge(graph, model_state)

    def init_opt(params):
        return optim.optimizer(c.optim, {"weight_decay": 0.0}).init(params)  # decay has no state

    def init(seed):
        params = nnx.to_pure_dict(nnx.state(build(seed), nnx.Param))
        return {"params": params, "opt": init_opt(params)}

    def loss(params, batch_B):
        with logical_axes.placed_by(place):
            return field.loss(as_model(params), batch_B, chunk, terms)

    def readings(params, batch_B):
        with logical_axes.placed_by(place):
            return field.readings(as_model(params), batch_B, chunk)

    def loss_and_grads(params, batch_B):
        if c.train.accumulate == 1:
            return jax.value_and_grad(loss)(params, batch_B)
        return apart(micro_batches)(params, batch_B)

    def micro_batches(params, batch_B):
        """Means over A micro-batches, one after another; each has rows of all devices."""
        A = c.train.accumulate
        batch_AB = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, A, *x.shape[1:]), 1, 0), batch_B
        )

        def add(total, batch_B):
            found = jax.value_and_grad(loss)(params, batch_B)
            return jax.tree.map(lambda t, x: t + x.astype(jnp.float32), total, found), None

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (jnp.zeros(()), params))
        value, grads = jax.tree.map(lambda x: x / A, jax.lax.scan(add, zeros, batch_AB)[0])
        return value, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)

    def one_step(state, hyper, batch_B, step):
        value, grads = loss_and_grads(state["params"], batch_B)
        transform = optim.optimizer(c.optim, hyper)
        updates, opt = transform.update(grads, state["opt"], state["params"])
        lr = optim.learning_rate(c.optim.schedule, step, hyper)
        params = optim.apply_updates(state["params"], updates, lr)
        metrics = {"loss": value, "grad_norm": optax.global_norm(grads), "lr": lr}
        return {"params": params, "opt": opt}, metrics

    def train(state, hyper, batch_KB, first, begin, end):
        """Steps [begin, end) of a dispatch whose step 0 is the run's step `first`."""
        K = len(jax.tree.leaves(batch_KB)[0])
        zeros_K = {name: jnp.zeros(K, jnp.float32) for name in ("loss", "grad_norm", "lr")}

        def body(i, carry):
            state, metrics_K = carry
            batch_B = jax.tree.map(lambda x_KB: x_KB[i], batch_KB)
            state, metrics = one_step(state, hyper, batch_B, first + i)
            return state, {k: v.at[i].set(metrics[k]) for k, v in metrics_K.items()}

        return jax.lax.fori_loop(begin, end, body, (state, zeros_K))

    return _Functions(init, init_opt, train, readings, abstract)


def _chosen(key: str, mesh: Mesh) -> tuple[ConfigDict, backend.Choice]:
    """The config of a program with what "auto" stands for on this mesh."""
    c = _config_of(key)
    choice = backend.choose(c, mesh.shape)
    c.model.attention, c.model.matmul = choice.attention, choice.matmul
    return c, choice


def _config_of(key: str) -> ConfigDict:
    nested: dict[str, Any] = {}
    for name, value in json.loads(key).items():
        section, _, inner = name.partition(".")
        nested.setdefault(section, {})[inner] = value
    return ConfigDict(nested)


@functools.lru_cache(maxsize=64)
def _programs(key: str) -> Programs:
    mesh = meshes.make_mesh(_config_of(key).parallel)
    c, choice = _chosen(key, mesh)
    by = sharding.rules(c.parallel)
    sharding.check_divides(c, by, mesh)

    place = functools.partial(sharding.place, by=by, mesh=mesh)
    # the splash kernel and experts have to be told where rows lie; the rest the compiler splits by rows on its own
    told = choice.attention == "splash" or c.model.experts
    placed = sharding.needs_placing(mesh) or (told and mesh.size > 1)
    f = _functions(
        c,
        place if placed else None,
        mesh.shape["sequence"],
        functools.partial(sharding.defer_allreduce, mesh=mesh),
    )
    param_shardings = nnx.to_pure_dict(sharding.param_shardings(f.abstract, mesh, by))
    everywhere = sharding.replicated(mesh)
    shapes = jax.eval_shape(f.init, 0)
    # Optimizer moments lie where their parameters lie; all else of its state is replicated.
    opt_shardings = sharding.optimizer_state_shardings(
        shapes["opt"], shapes["params"], param_shardings, everywhere
    )
    state_shardings = {"params": param_shardings, "opt": opt_shardings}
    state_like = jax.tree.map(
        lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
        shapes,
        state_shardings,
    )
    batch_sharding = sharding.batch_sharding(mesh, leading=1)
    train = jax.jit(
        f.train,
        donate_argnums=0,
        in_shardings=(state_shardings, everywhere, batch_sharding, *(everywhere,) * 3),
        out_shardings=(state_shardings, everywhere),
        compiler_options=choice.options or None,
    )
    readings = jax.jit(
        f.readings,
        in_shardings=(param_shardings, sharding.batch_sharding(mesh)),
        out_shardings=everywhere,
    )

    def whole(batch_B):
        """A batch that every process holds, each handing over its own rows."""
        rows = sharding.batch_sharding(mesh)
        return jax.tree.map(
            lambda x_B: jax.make_array_from_callback(x_B.shape, rows, lambda part: x_B[part]),
            batch_B,
        )

    def one_run(params, batch_B):
        return jax.tree.map(lambda x_B: x_B[None], readings(params, whole(batch_B)))

    def train_one(state, hyper_R, batch_KB, first_R, begin_R, end_R):
        hyper = {k: v[0] for k, v in hyper_R.items()}
        return train(state, hyper, batch_KB, first_R[0], begin_R[0], end_R[0])

    return Programs(
        mesh=mesh,
        runs=1,
        state_like=state_like,
        init=jax.jit(f.init, out_shardings=state_shardings, compiler_options=backend.quick()),
        train=train_one,
        readings=one_run,
        join=lambda states: states[0],
        split=lambda state: [state],
        batch=lambda batch_RKB: jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(batch_sharding, x[0]), batch_RKB
        ),
        share=sharding.batch_share(mesh),
        jitted=train,
    )


@functools.lru_cache(maxsize=16)
def _packed(key: str, runs: int) -> Programs:
    devices = jax.local_devices()
    if runs % len(devices):
        raise ValueError(f"{runs} runs do not spread evenly over {len(devices)} devices")
    mesh = Mesh(np.asarray(devices), ("run",), axis_types=(AxisType.Auto,))
    by_run, everywhere = (NamedSharding(mesh, PartitionSpec(*a)) for a in (("run",), ()))
    f = _functions(_chosen(key, mesh)[0])  # runs send each other nothing that could be hidden
    axis = backend.run_axis()

    def over_runs(function, shared: int = 0):
        """`function` over a leading run axis of all but its last `shared` arguments."""

        def local(*args):
            own, common = args[: len(args) - shared], args[len(args) - shared :]
            if axis == "vmap":
                return jax.vmap(lambda *x: function(*x, *common))(*own)
            return jax.lax.map(lambda x: function(*x, *common), own)

        def apply(*args):
            specs = [PartitionSpec("run")] * (len(args) - shared) + [PartitionSpec()] * shared
            return jax.shard_map(
                local, mesh=mesh, in_specs=tuple(specs), out_specs=PartitionSpec("run"),
                check_vma=False,  # runs share nothing, so there is no replication to check
            )(*args)  # fmt: skip

        return apply

    alone = SingleDeviceSharding(devices[0])
    state_like = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=alone), jax.eval_shape(f.init, 0)
    )

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

    train = jax.jit(over_runs(f.train), donate_argnums=0, in_shardings=by_run, out_shardings=by_run)
    return Programs(
        mesh=mesh,
        runs=runs,
        state_like=state_like,
        init=jax.jit(f.init, out_shardings=alone, compiler_options=backend.quick()),
        train=train,
        readings=jax.jit(
            over_runs(f.readings, shared=1),
            in_shardings=(by_run, everywhere),
            out_shardings=by_run,
        ),
        join=join,
        split=split,
        batch=lambda batch_RKB: jax.device_put(batch_RKB, by_run),
        share=(0, 1),
        jitted=train,
    )
