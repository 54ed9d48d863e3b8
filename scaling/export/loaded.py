"""Load a trained run: its model, parameters, tokenizer and config, ready to score and to sample.

Shapes: B batch, T positions, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from ml_collections import ConfigDict

from scaling import results
from scaling.config import load as config_lib
from scaling.data import text_steps, tokenizers
from scaling.data.tokenizers import Tokenizer
from scaling.export.sample import Sampler
from scaling.models import losses
from scaling.programs import backend
from scaling.programs.step_functions import StepFunctions
from scaling.training.checkpoint import Checkpoints
from scaling.utils import files
from scaling.utils.errors import UserError

BATCH = 8  # rows of text that `loss` scores at a time


@dataclass(frozen=True)
class Loaded:
    """A trained run. `params` is a tree of arrays, `functions.as_model(params)` the network."""

    folder: Path
    config: ConfigDict
    params: Any
    step: int  # optimizer steps behind the parameters
    functions: StepFunctions

    @functools.cached_property
    def model(self) -> nnx.Module:
        """The network, which maps the inputs of its field to float32 logits."""
        return self.functions.as_model(self.params)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer. Raises UserError without text, or if its file is missing."""
        data = self.config.data
        if data.field != "language":
            raise UserError(f"{self.folder}: config.data.field={data.field!r} has no tokenizer")
        if data.tokenizer == "bpe" and not (self.folder / tokenizers.TOKENIZER).is_file():
            raise UserError(
                f"{self.folder} keeps no tokenizer.json; copy the one of its data into it"
            )
        return tokenizers.stored(self.folder)

    def logits(self, inputs) -> jax.Array:
        """Return `logits_BTV` of `tokens_BT`; of another field, the logits of its inputs.

        Raises UserError if T is longer than the context.
        """
        if self.config.data.field == "language":
            inputs = np.asarray(inputs, np.int32)
            longest = self.config.data.seq_len
            if inputs.shape[-1] > longest:
                raise UserError(
                    f"{inputs.shape[-1]:,} tokens, but the context has config.data.seq_len="
                    f"{longest:,}; give fewer"
                )
        return self._logits(self.params, inputs)

    def loss(self, text: str) -> float:
        """Return the mean nats per token of a text, read as one document.

        The text is cut into windows of the context's length; each begins anew.
        """
        text = text_steps.from_config(self.config.data).apply(text)
        separator = self.tokenizer.separator
        ids = np.array([separator, *self.tokenizer.encode_batch([text])[0]], np.int32)
        if len(ids) < 2:
            raise UserError("the text is empty; give at least one character")
        T = self.config.data.seq_len
        targets = len(ids) - 1
        rows = -(-targets // (T * BATCH)) * BATCH
        padded = np.full(rows * T + 1, separator, np.int32)
        padded[: len(ids)] = ids
        inputs_NT, targets_NT = padded[:-1].reshape(rows, T), padded[1:].reshape(rows, T)
        total = 0.0
        for start in range(0, rows, BATCH):
            part = slice(start, start + BATCH)
            losses_BT = self._losses(self.params, inputs_NT[part], targets_NT[part])
            counted = np.asarray(losses_BT, np.float64).reshape(-1)[: targets - start * T]
            total += float(counted.sum())
        return total / targets

    def generate(self, prompt: str | Sequence[str], **options: Any) -> list[str]:
        """Return texts that continue the prompt or prompts, see `Sampler.generate`."""
        return self._sampler.generate(prompt, **options)

    @functools.cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.functions, self.params, self.tokenizer)

    @functools.cached_property
    def _logits(self):
        return jax.jit(lambda params, inputs: self.functions.as_model(params)(inputs))

    @functools.cached_property
    def _losses(self):
        def of(params, inputs_BT, targets_BT):
            return losses.token_losses(self.functions.as_model(params)(inputs_BT), targets_BT)

        return jax.jit(of)


def load(run: str | Path, mesh: Mesh | None = None) -> Loaded:
    """Load a run's folder, or a workdir with one run, from its newest intact checkpoint.

    Parameters lie on the first device, or with a `mesh` in parts on its devices. Neither the mesh
    nor the number of devices need be those of the training. Raises UserError if the folder is no
    run, or holds no intact checkpoint.
    """
    folder = _folder(Path(run))
    if mesh is not None:  # whatever its axes' types, the compiler divides the work
        mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * mesh.devices.ndim)
    path = folder / "config.json"
    config = config_lib.from_json(files.read_json(path), path)
    functions = StepFunctions(resolved(config))
    state_like = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=_sharding(s.shape, mesh)),
        jax.eval_shape(functions.init, 0),
    )
    run_hash = config_lib.run_hash(config)
    for name in ("merged", "checkpoints"):
        checkpoints = Checkpoints(folder / name, keep=None, run=run_hash)
        if not checkpoints.folder.is_dir():
            continue
        with checkpoints:
            restored = checkpoints.restore(state_like)
        if restored is not None:
            state, position = restored
            return Loaded(folder, config, state["params"], position["step"], functions)
    raise UserError(
        f"{folder / 'checkpoints'} holds no intact checkpoint; train the run again, and clean it "
        "without --checkpoints"
    )


def resolved(config: ConfigDict) -> ConfigDict:
    """Return a copy of the config with "auto" forms of the model as this backend runs them."""
    c = config_lib.with_values(config, {"parallel.sequence": 1})
    choice = backend.choose(c, {})
    c.model.attention, c.model.matmul = choice.attention, choice.matmul
    return c


def _folder(path: Path) -> Path:
    """Return the folder of a run: `path`, or the one run of a workdir."""
    if (path / "config.json").is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name the folder of a run, as W/runs/ID")
    names = results.run_names(path) if (path / "runs").is_dir() else []
    if len(names) == 1:
        return path / "runs" / names[0]
    found = f"holds {len(names)} runs, such as runs/{names[0]}" if names else "holds no run"
    raise UserError(f"{path}: {found}; name the folder of one run, as W/runs/ID")


def _sharding(shape: tuple[int, ...], mesh: Mesh | None):
    """Split the longest axis that the mesh's devices divide, else replicate."""
    if mesh is None:
        return SingleDeviceSharding(jax.devices()[0])
    axes: list[Any] = [None] * len(shape)
    split = [a for a, size in enumerate(shape) if size % mesh.size == 0]
    if split:
        axes[max(split, key=lambda a: shape[a])] = mesh.axis_names
    return NamedSharding(mesh, PartitionSpec(*axes))
