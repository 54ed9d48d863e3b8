"""The common part of vision and speech: grids of numbers with one label each.

A row is an example; D counts examples.

Shapes: B examples, H rows, W columns, C channels, Y classes, N held-out examples.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from scaling import accounting
from scaling.data import augment, example_batches, examples, pipeline
from scaling.fields.field import HeldOutRows, Prepared
from scaling.metrics.classes import classification, confusion
from scaling.models import losses
from scaling.models.patches import LabelHead, Patches
from scaling.models.transformer import Transformer
from scaling.utils.errors import UserError


def example(c, dtype):
    row = {
        "x": jax.ShapeDtypeStruct((c.data.height, c.data.width, c.data.channels), dtype),
        "y": jax.ShapeDtypeStruct((), jnp.int32),
    }
    if c.data.mixup:
        row |= {
            "y2": jax.ShapeDtypeStruct((), jnp.int32),
            "mix": jax.ShapeDtypeStruct((), jnp.float32),
        }
    return row


def prepare(c, fill: float) -> Prepared:
    """Prepare the examples; `fill` pads a moved example."""
    data = examples.prepare(c.data)
    size = len(data.train_y_N)
    count = c.data.unique_tokens or size
    if count > size:
        raise UserError(
            f"config.data.unique_tokens={count}: the train split has {size} examples; 0 takes all "
            "of them"
        )
    x_NHWC, y_N = data.train_x_NHWC, data.train_y_N
    # Sources are often sorted by class, so examples are drawn. A smaller draw is part of every
    # larger one.
    if count < size:
        drawn_N = np.sort(pipeline.permute(np.arange(count, dtype=np.uint64), size, (0, 0)))
        x_NHWC, y_N = x_NHWC[drawn_N], y_N[drawn_N]

    def dispatches(c, share):
        return example_batches.ExampleDispatches(
            x_NHWC,
            y_N,
            batch_size=c.train.batch_size,
            steps=c.train.steps_per_dispatch,
            seed=c.seed,
            augment=augment.from_config(c.data, fill),
            host=share[0],
            hosts=share[1],
        )

    def held_out(c):
        index_N = example_batches.held_out_examples(len(data.valid_y_N), c.eval.tokens)
        batch = {
            "x": np.asarray(data.valid_x_NHWC[index_N]),
            "y": np.asarray(data.valid_y_N[index_N]),
        }
        if len(np.unique(batch["y"])) < 2:
            raise UserError(
                f"config.eval.tokens={c.eval.tokens}: all {len(index_N)} held-out examples are of "
                "one class; raise it, or config.data.valid_fraction"
            )
        return HeldOutRows(batch, 1, groups_N=data.groups[1][index_N], classes=data.classes)

    fingerprint = augment.fingerprint(data.fingerprint, c.data)
    return Prepared(fingerprint, count, count, dispatches, held_out)


def model(c, rngs) -> Transformer:
    d = c.data
    shape, patch = (d.height, d.width, d.channels), accounting.patch_of(c)
    return Transformer(
        c.model,
        inputs=functools.partial(Patches, c.model, shape=shape, patch=patch),
        outputs=functools.partial(LabelHead, c.model, classes=d.classes),
        rngs=rngs,
    )


def ends(scaled):
    """(inputs, loss, readings) of a field whose examples [B, H, W, C] `scaled` maps to inputs."""

    def inputs(batch):
        return scaled(batch["x"])

    def loss(model, batch, chunk, terms):
        return model.losses(inputs(batch), batch, 0, terms).mean()

    def readings(model, batch, chunk):
        logits_BY = model(inputs(batch))
        return {"loss": losses.token_losses(logits_BY, batch["y"]), "logits": logits_BY}

    return inputs, loss, readings


def metrics(readings_N, rows):
    classes = readings_N["logits"].shape[-1]
    ks = (5,) if classes > 5 else ()
    return classification(readings_N["logits"], rows.batch["y"], rows.groups_N, ks=ks)


def details(readings_N, rows):
    """Return the confusion matrix: rows are labels, columns predictions."""
    logits_NY = readings_N["logits"]
    matrix_YY = confusion(logits_NY.argmax(axis=-1), rows.batch["y"], logits_NY.shape[-1])
    return {"classes": list(rows.classes), "confusion": matrix_YY.tolist()}
