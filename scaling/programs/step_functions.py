"""The training step of one run as pure functions of its state and its batches, not yet compiled.

Shapes: K steps of one dispatch, B rows per step, A micro-batches of a step. A batch is a tree of
arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from ml_collections import ConfigDict

from scaling import accounting
from scaling.fields import registry as fields
from scaling.models import activations, logical_axes, losses, parameters, parametrization
from scaling.programs import optim, schedules

METRICS = ("loss", "grad_norm", "lr")  # one number per step each


class StepFunctions:
    """Initialise, train and evaluate one run of a config whose "auto" choices are resolved.

    The state is `{"params", "opt"}`; `infos` holds the `ParamInfo` of each parameter.

    `layout` constrains how a mesh that splits more than the batch splits activations, see
    `models/logical_axes.py`. `defer_allreduce` wraps the sum over micro-batches, see
    `sharding.defer_allreduce`.
    """

    def __init__(
        self,
        config: ConfigDict,
        layout: logical_axes.Layout | None = None,
        sequence_shards: int = 1,
        defer_allreduce: Callable[[Callable], Callable] = lambda means: means,
    ):
        self.config, self.layout, self.defer_allreduce = config, layout, defer_allreduce
        self.field = fields.of(config.data.field)
        self.chunk = losses.pick_chunk(
            config.model.loss_chunk,
            vocab_size=config.data.vocab_size,
            seq_len=config.data.seq_len,
            sequence_shards=sequence_shards,
        )
        o, balance = config.optim, config.model.balance if config.model.experts else 0.0
        self.terms = losses.LossTerms(o.label_smoothing, o.z_loss, o.focal_gamma, balance)
        self.graph, self.abstract = nnx.split(nnx.eval_shape(lambda: self.build(0)))
        self.infos = parameters.to_tree(self.abstract, parameters.info)
        self.scales = parametrization.of(config.model)
        activations.check(config.model)
        accounting.check_built(accounting.shape_of(config), self._built())

    def build(self, seed) -> nnx.Module:
        with nnx.use_eager_sharding(False):
            return self.field.model(self.config, nnx.Rngs(params=jax.random.key(seed)))

    def _built(self) -> accounting.Built:
        """Count what the model holds, and what its weights multiply: two FLOPs per position each.

        Of an expert's matrix only a token's share counts. Embeddings and heads are left out.
        """
        m = self.config.model
        total = blocks = products = 0
        sizes = parameters.to_tree(self.abstract, lambda variable: variable.get_value().size)
        for size, info in zip(jax.tree.leaves(sizes), jax.tree.leaves(self.infos), strict=True):
            total += size
            blocks += size if info.stacked else 0
            if info.decay and (info.stacked or info.matrix):
                routed = info.matrix and "experts" in info.axes
                products += 2 * size * m.experts_per_token // m.experts if routed else 2 * size
        return accounting.Built(total, blocks, products)

    def as_model(self, params) -> nnx.Module:
        return nnx.merge(self.graph, parameters.from_tree(params, self.abstract))

    def init(self, seed):
        """Return the state before the first step."""
        params = parameters.to_tree(nnx.state(self.build(seed), nnx.Param))
        decay = {"weight_decay": 0.0}  # it has no state
        opt = optim.optimizer(self.config.optim, decay, self.infos, self.scales).init(params)
        return {"params": params, "opt": opt}

    def train(self, state, hyper, batch_KB, first, begin, end):
        """Take steps [begin, end) of a dispatch whose step 0 is the run's step `first`.

        Returns the state and the `METRICS`, `[K]` each, 0 for steps outside of [begin, end).
        """
        K = len(jax.tree.leaves(batch_KB)[0])
        zeros_K = {name: jnp.zeros(K, jnp.float32) for name in METRICS}

        def body(i, carry):
            state, metrics_K = carry
            batch_B = jax.tree.map(lambda x_KB: x_KB[i], batch_KB)
            state, metrics = self.step(state, hyper, batch_B, first + i)
            return state, {k: v.at[i].set(metrics[k]) for k, v in metrics_K.items()}

        return jax.lax.fori_loop(begin, end, body, (state, zeros_K))

    def step(self, state, hyper, batch_B, step):
        """Take one optimizer step, number `step` of its run: the next state and its metrics."""
        o = self.config.optim
        value, grads = self.loss_and_grads(state["params"], batch_B)
        transform = optim.optimizer(o, hyper, self.infos, self.scales)
        updates, opt = transform.update(grads, state["opt"], state["params"])
        lr = schedules.learning_rate(o.schedule, step, hyper)
        params = optim.apply_updates(state["params"], updates, lr, self.infos, o.name)
        metrics = {"loss": value, "grad_norm": optax.global_norm(grads), "lr": lr}
        return {"params": params, "opt": opt}, metrics

    def loss_and_grads(self, params, batch_B):
        if self.config.train.accumulate == 1:
            return jax.value_and_grad(self.loss)(params, batch_B)
        return self.defer_allreduce(self.micro_batch_means)(params, batch_B)

    def micro_batch_means(self, params, batch_B):
        """Mean loss and gradient over A micro-batches in turn; each has rows of all devices."""
        A = self.config.train.accumulate
        batch_AB = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, A, *x.shape[1:]), 1, 0), batch_B
        )

        def add(total, batch_B):
            value_and_grads = jax.value_and_grad(self.loss)(params, batch_B)
            return jax.tree.map(
                lambda t, x: t + x.astype(jnp.float32), total, value_and_grads
            ), None

        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), (jnp.zeros(()), params))
        value, grads = jax.tree.map(lambda x: x / A, jax.lax.scan(add, zeros, batch_AB)[0])
        return value, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)

    def loss(self, params, batch_B):
        """Mean cross-entropy in nats, with the gradient of the objective of the config."""
        with logical_axes.use_layout(self.layout):
            return self.field.loss(self.as_model(params), batch_B, self.chunk, self.terms)

    def readings(self, params, batch_B) -> dict[str, Any]:
        """Return what the field's metrics read of each row, with its "loss": `{name: [B, ...]}`."""
        with logical_axes.use_layout(self.layout):
            return self.field.readings(self.as_model(params), batch_B, self.chunk)
