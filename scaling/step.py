"""The compiled programs of a run: initial state, several training steps per call, evaluation.

Shapes: K steps of one dispatch, B sequences per step, T positions, V vocabulary.

Programs depend on shapes and static choices alone. Learning rate, weight decay, warm-up, horizon and
seed are traced values, so that one compiled program serves every run of one size.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict

from scaling import config as config_lib
from scaling import optim, sharding
from scaling.evaluate import token_losses
from scaling.models import ops
from scaling.models.transformer import Transformer

# What the compiled programs depend on: sections or single keys of the config.
PROGRAM_KEYS = (
    "model",
    "data.vocab_size",
    "data.seq_len",
    "optim.beta1",
    "optim.beta2",
    "optim.eps",
    "optim.clip",
    "optim.schedule",
    "train.batch_size",
    "train.steps_per_dispatch",
    "train.log_every",
    "eval.batch_size",
    "parallel",
)


@dataclass(frozen=True)
class Programs:
    """Jitted functions over a state `{"params", "opt"}` of one shape on one mesh."""

    mesh: Mesh
    state_like: Any  # the state as jax.ShapeDtypeStruct with shardings
    init: Any  # seed -> state
    train: Any  # (state, hyper, tokens_KBT1, first step, number of steps <= K) -> (state, metrics)
    sequence_losses: Any  # (params, tokens_BT1) -> summed loss of each sequence [B]


def programs(config: ConfigDict) -> Programs:
    """The programs for `config`, built once per process for equal shapes."""
    return _programs(program_key(config))


def program_key(config: ConfigDict) -> str:
    """Equal for configs that the same compiled programs serve."""
    flat = config_lib.flatten(config)
    chosen = {k: v for k, v in flat.items() if k in PROGRAM_KEYS or k.split(".")[0] in PROGRAM_KEYS}
    return json.dumps(chosen, sort_keys=True)


@functools.lru_cache(maxsize=64)
def _programs(key: str) -> Programs:
    nested: dict[str, Any] = {}
    for name, value in json.loads(key).items():
        section, _, inner = name.partition(".")
        nested.setdefault(section, {})[inner] = value
    c = ConfigDict(nested)
    mesh = sharding.make_mesh(c.parallel)
    sharding.check_divides(c, mesh)
    backend = jax.default_backend()
    with c.unlocked():
        c.model.matmul = ops.pick(c.model.matmul, kind="matmul", backend=backend)
        c.model.attention = ops.pick(c.model.attention, kind="attention", backend=backend)

    def build(seed) -> Transformer:
        with nnx.use_eager_sharding(False):
            return Transformer(
                c.model,
                vocab_size=c.data.vocab_size,
                seq_len=c.data.seq_len,
                rngs=nnx.Rngs(params=jax.random.key(seed)),
            )

    graph, abstract = nnx.split(nnx.eval_shape(lambda: build(0)))
    shardings = sharding.param_shardings(abstract, mesh)
    param_shardings = nnx.to_pure_dict(shardings)

    def as_model(params) -> Transformer:
        model_state = jax.tree.map(lambda x: x, abstract)  # a copy; the next line writes into it
        nnx.replace_by_pure_dict(model_state, params)
        return nnx.merge(graph, model_state)

    def init_opt(params):
        return optim.optimizer(c.optim, {"weight_decay": 0.0}).init(params)  # decay has no state

    def init(seed):
        params = nnx.to_pure_dict(nnx.state(build(seed), nnx.Param))
        return {"params": params, "opt": init_opt(params)}

    def losses_BT(params, tokens_BT1):
        logits_BTV = as_model(params)(tokens_BT1[:, :-1].astype(jnp.int32))
        return token_losses(logits_BTV, tokens_BT1[:, 1:].astype(jnp.int32))

    def loss(params, tokens_BT1):
        return losses_BT(params, tokens_BT1).mean()

    def one_step(state, hyper, tokens_BT1, step):
        value, grads = jax.value_and_grad(loss)(state["params"], tokens_BT1)
        transform = optim.optimizer(c.optim, hyper)
        updates, opt = transform.update(grads, state["opt"], state["params"])
        lr = optim.learning_rate(c.optim.schedule, step, hyper)
        params = optim.apply_updates(state["params"], updates, lr)
        metrics = {"loss": value, "grad_norm": optax.global_norm(grads), "lr": lr}
        return {"params": params, "opt": opt}, metrics

    def train(state, hyper, tokens_KBT1, first, count):
        K = tokens_KBT1.shape[0]
        zeros_K = {name: jnp.zeros(K, jnp.float32) for name in ("loss", "grad_norm", "lr")}

        def body(i, carry):
            state, metrics_K = carry
            state, metrics = one_step(state, hyper, tokens_KBT1[i], first + i)
            return state, {k: v.at[i].set(metrics[k]) for k, v in metrics_K.items()}

        return jax.lax.fori_loop(0, count, body, (state, zeros_K))

    def sequence_losses(params, tokens_BT1):
        return losses_BT(params, tokens_BT1).sum(axis=-1)

    everywhere = sharding.replicated(mesh)
    shapes = jax.eval_shape(init, 0)
    # Optimizer moments lie where their parameters lie; its scalars are replicated.
    opt_shardings = optax.tree_map_params(
        init_opt,
        lambda _, place: place,
        shapes["opt"],
        param_shardings,
        transform_non_params=lambda _: everywhere,
    )
    state_shardings = {"params": param_shardings, "opt": opt_shardings}
    state_like = jax.tree.map(
        lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
        shapes,
        state_shardings,
    )
    # Initialisation runs once, so its time is its compilation, which this quarters on CPUs.
    quick = {"xla_backend_optimization_level": 0} if backend == "cpu" else None
    return Programs(
        mesh=mesh,
        state_like=state_like,
        init=jax.jit(init, out_shardings=state_shardings, compiler_options=quick),
        train=jax.jit(
            train,
            donate_argnums=0,
            in_shardings=(
                state_shardings,
                everywhere,
                sharding.batch_sharding(mesh, leading=1),
                everywhere,
                everywhere,
            ),
            out_shardings=(state_shardings, everywhere),
        ),
        sequence_losses=jax.jit(
            sequence_losses,
            in_shardings=(state_shardings["params"], sharding.batch_sharding(mesh)),
            out_shardings=everywhere,
        ),
    )
