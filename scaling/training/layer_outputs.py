"""Record what every layer of a model puts out before training and after a few steps of it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.fields import registry as fields
from scaling.programs.step_functions import StepFunctions

Sizes = dict[str, tuple[float, float]]  # layer -> mean |x|, and mean |x - x before training|
PLAIN = {  # each layer is called by itself, by products that every backend has, at one rate
    "model.scan_layers": False,
    "model.remat": "none",
    "model.attention": "plain",
    "model.matmul": "plain",
    "train.accumulate": 1,
    "train.log_every": 1,
    "optim.schedule": "constant",
    "optim.cooldown": "decay",
}


def after_steps(config: ConfigDict, steps: int, seeds: int) -> list[Sizes]:
    """Return the sizes of every layer's output after `steps` training steps, one dict per seed.

    The learning rate is config.optim.lr from the first step on, without warm-up or decay. Outputs
    are of a batch that follows those trained on. Of all blocks the last one is recorded. Raises
    UserError if the data are missing or bad.
    """
    c = config_lib.with_values(config, {**PLAIN, "train.steps_per_dispatch": steps + 1})
    field = fields.of(c.data.field)
    functions, prepared = StepFunctions(c), field.prepare(c)
    hyper = {"lr": c.optim.lr, "weight_decay": c.optim.weight_decay, "final_lr": 1.0}
    hyper = {k: np.float32(v) for k, v in (hyper | dict(warmup=0, total=1, decay=0)).items()}
    train = jax.jit(functions.train)

    @jax.jit
    def outputs(params, batch_B):
        model = functions.as_model(params)
        with recorded(model) as layers:
            model(field.inputs(batch_B))
        return layers

    found = []
    for seed in range(seeds):
        own = config_lib.with_values(c, {"seed": c.seed + seed})
        batch_KB = prepared.dispatches(own, (0, 1))[0]
        probe_B = jax.tree.map(lambda x_KB: x_KB[steps], batch_KB)
        state = functions.init(own.seed)
        before = outputs(state["params"], probe_B)
        state, _ = train(state, hyper, batch_KB, 0, 0, steps)
        after = outputs(state["params"], probe_B)
        found.append({k: (_mean_size(x), _mean_size(x - before[k])) for k, x in after.items()})
    return found


def _mean_size(x: jax.Array) -> float:
    return float(jnp.abs(x.astype(jnp.float32)).mean())


@contextlib.contextmanager
def recorded(model: nnx.Module) -> Iterator[dict[str, jax.Array]]:
    """Collect the output of every module of `model` that is called, by the names of attributes.

    Layers of all blocks share a name; the last call stays. Of several outputs the first counts.
    """
    layers: dict[str, jax.Array] = {}
    stack: list[tuple[nnx.Module, str]] = []
    kinds = {type(m) for _, m in nnx.iter_modules(model)}
    originals = {kind: kind.__call__ for kind in kinds if "__call__" in vars(kind)}

    def recording(original):
        @functools.wraps(original)
        def call(self, *args, **kwargs):
            name = _name(self, *stack[-1]) if stack else ""
            stack.append((self, name))
            try:
                result = original(self, *args, **kwargs)
            finally:
                stack.pop()
            first = result[0] if isinstance(result, tuple) else result
            if name and isinstance(first, jax.Array):
                layers[name] = first
            return result

        return call

    try:
        for kind, original in originals.items():
            kind.__call__ = recording(original)  # type: ignore[method-assign]
        yield layers
    finally:
        for kind, original in originals.items():
            kind.__call__ = original  # type: ignore[method-assign]


def _name(module: nnx.Module, parent: nnx.Module, parent_name: str) -> str:
    """Return the dotted name of a module that `parent` calls."""
    own = next((k for k, v in vars(parent).items() if v is module), type(module).__name__.lower())
    return f"{parent_name}.{own}" if parent_name else own
