"""The compiled programs of a run: initial state, several training steps per call, evaluation.

Shapes: R runs of one program, K steps of one dispatch, B rows per step. A batch is a tree of arrays
[K, B, ...], for language the one array `tokens_KBT1`; scaling/fields/ says what a row is.

Programs depend on shapes and static choices alone. Learning rate, weight decay, warm-up, horizon
and seed are traced values, so that one compiled program serves every run of one size, and several
runs of one size can train in it side by side (R > 1), each at its own step.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from scaling.config import keys
from scaling.config.flat_dict import flatten, nested
from scaling.parallel import mesh as meshes
from scaling.parallel import sharding
from scaling.programs import backend, packed_step
from scaling.programs.interface import Programs
from scaling.programs.step_functions import StepFunctions


def programs(config: ConfigDict, runs: int = 1) -> Programs:
    """Return the programs for `config`, built once per process for equal shapes.

    With `runs` above 1 they train that many runs at once, the run axis spread over all devices, so
    that no device waits for another. Each run then lives on one device, and `config.parallel` names
    only how many there are. `runs` must be a multiple of their number.
    """
    key = program_key(config)
    return _one_run(key) if runs == 1 else _packed(key, runs)


def program_key(config: ConfigDict | Mapping[str, Any]) -> str:
    """Equal for configs, or flat dicts of them, that the same compiled programs serve."""
    flat = flatten(config) if isinstance(config, ConfigDict) else config
    return json.dumps(keys.encoded({k: flat[k] for k in flat if k in keys.PROGRAM}), sort_keys=True)


def clear_caches() -> None:
    """Forget all programs, so that the next ones are traced anew."""
    _one_run.cache_clear()
    _packed.cache_clear()


def _config_of(key: str) -> ConfigDict:
    return ConfigDict(nested(keys.decoded(json.loads(key))))


def _resolve(c: ConfigDict, mesh: Mesh) -> backend.Choice:
    """Write what "auto" stands for on this mesh into the config of a program."""
    choice = backend.choose(c, mesh.shape)
    c.model.attention, c.model.matmul = choice.attention, choice.matmul
    return choice


@functools.lru_cache(maxsize=16)
def _packed(key: str, runs: int) -> Programs:
    c, mesh = _config_of(key), packed_step.make_mesh(runs)
    _resolve(c, mesh)  # runs send each other nothing, so the compiler has no latency to hide
    return packed_step.packed(StepFunctions(c), mesh, runs)


@functools.lru_cache(maxsize=64)
def _one_run(key: str) -> Programs:
    c = _config_of(key)
    mesh = meshes.make_mesh(c.parallel)
    choice = _resolve(c, mesh)
    rules = sharding.rules(c.parallel)
    sharding.check_divides(c, rules, mesh)

    # The splash kernel and experts need to know where rows lie; the rest the compiler splits by
    # rows itself.
    by_rows = choice.attention == "splash" or c.model.experts
    constrained = sharding.needs_layout(mesh) or (by_rows and mesh.size > 1)
    layout = functools.partial(sharding.named_sharding, rules=rules, mesh=mesh)
    functions = StepFunctions(
        c,
        layout if constrained else None,
        mesh.shape["sequence"],
        functools.partial(sharding.defer_allreduce, mesh=mesh),
    )
    everywhere, rows = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    batch_sharding = sharding.batch_sharding(mesh, leading=1)
    shapes = jax.eval_shape(functions.init, 0)
    state_shardings = _state_shardings(functions, shapes, rules, mesh)
    train = jax.jit(
        functions.train,
        donate_argnums=0,
        in_shardings=(state_shardings, everywhere, batch_sharding, *(everywhere,) * 3),
        out_shardings=(state_shardings, everywhere),
        compiler_options=choice.options or None,
    )
    readings = jax.jit(
        functions.readings,
        in_shardings=(state_shardings["params"], rows),
        out_shardings=everywhere,
    )

    def whole(batch_B):
        """Return a batch that every process holds, each handing over its own rows."""
        return jax.tree.map(
            lambda x_B: jax.make_array_from_callback(x_B.shape, rows, lambda part: x_B[part]),
            batch_B,
        )

    def train_one(state, hyper_R, batch_KB, first_R, begin_R, end_R):
        hyper = {k: v[0] for k, v in hyper_R.items()}
        return train(state, hyper, batch_KB, first_R[0], begin_R[0], end_R[0])

    def readings_of_one(params, batch_B):
        return jax.tree.map(lambda x_B: x_B[None], readings(params, whole(batch_B)))

    return Programs(
        mesh=mesh,
        runs=1,
        state_like=jax.tree.map(
            lambda s, at: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=at),
            shapes,
            state_shardings,
        ),
        init=jax.jit(
            functions.init, out_shardings=state_shardings, compiler_options=backend.quick()
        ),
        train=train_one,
        readings=readings_of_one,
        join=lambda states: states[0],
        split=lambda state: [state],
        batch=lambda batch_RKB: jax.tree.map(
            lambda x: jax.make_array_from_process_local_data(batch_sharding, x[0]), batch_RKB
        ),
        share=sharding.batch_share(mesh),
        jitted=train,
    )


def _state_shardings(functions: StepFunctions, shapes, rules: sharding.Rules, mesh: Mesh):
    """Shard moments of the optimizer as their parameters; replicate the rest of its state."""
    params = sharding.param_shardings(functions.infos, mesh, rules)
    opt = sharding.optimizer_state_shardings(
        shapes["opt"], shapes["params"], params, sharding.replicated(mesh)
    )
    return {"params": params, "opt": opt}
