"""Patches by hand, counts against the real tree and the compiler, bad sizes, and meshes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import accounting, results
from scaling.config import load as config_lib
from scaling.data import speech
from scaling.fields import registry as fields
from scaling.programs import train_step
from scaling.training import loop
from scaling.utils import files
from scaling.utils.errors import UserError
from tests.data.test_debian import require
from tests.fields.common import config_of

KINDS = ("transformer", "mlp", "cnn", "lstm", "lru")


def model_of(config):
    with nnx.use_eager_sharding(False):
        return fields.of("vision").model(config, nnx.Rngs(0))


def test_patches_are_cut_row_by_row():
    config = config_of("vision", **{"model.matmul": "plain", "model.width": 16})
    model = model_of(config)
    model.inputs.patch_PD[...] = jnp.eye(16)  # a patch of 4 x 4 pixels is its own x_D
    model.inputs.positions_TD[...] = jnp.zeros((4, 16))
    x_BHWC = jnp.arange(64.0).reshape(1, 8, 8, 1)
    x_BTD, _ = model.inputs(x_BHWC)
    image = np.arange(64.0).reshape(8, 8)
    expected = [image[r : r + 4, c : c + 4].ravel() for r in (0, 4) for c in (0, 4)]
    np.testing.assert_array_equal(x_BTD[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_add_up_to_the_real_tree(kind):
    config = config_of("vision", **{"model.kind": kind})
    tree = train_step.programs(config).state_like["params"]
    groups = accounting.param_groups(accounting.shape_of(config))
    assert sum(groups.values()) == sum(x.size for x in jax.tree.leaves(tree))
    assert groups["embedding"] == tree["patch_PD"].size and groups["head"] == tree["head_DY"].size


@pytest.mark.parametrize("kind", ["transformer", "mlp", "cnn"])
def test_flops_of_an_image_agree_with_the_compiler_within_five_percent(kind):
    config = config_of(
        "vision",
        **{
            "model.kind": kind, "model.width": 256, "model.head_dim": 64, "model.mlp_width": 1024,
            "model.depth": 2, "model.patch_height": 2, "model.patch_width": 2,
            "model.matmul": "plain",
            "model.attention": "plain",
        },
    )  # fmt: skip
    graph, params = nnx.split(model_of(config))

    def loss(params, x_BHWC):
        return nnx.merge(graph, params)(x_BHWC).sum()

    x = jax.ShapeDtypeStruct((4, 8, 8, 1), jnp.float32)
    # with the gradient of the pixels, which ours counts as the backward pass of the first product
    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    ours = 4 * accounting.flops_per_token(accounting.shape_of(config), "exact")
    assert gradient.lower(params, x).cost_analysis()["flops"] == pytest.approx(ours, rel=0.05)


@pytest.fixture
def quick():
    """Programs that each run once: their time is their compilation."""
    optimised = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", optimised)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        *(("vision", {"model.kind": kind}) for kind in KINDS),
        ("vision", {"model.experts": 4}),
        ("speech", {}),
        ("recommend", {}),
        ("recommend", {"model.kind": "lstm"}),
    ],
    ids=str,
)
def test_a_split_width_trains_to_the_same_curve_and_metrics(
    field, values, pairs_workdir, tmp_path, quick
):
    """The run of `pairs_workdir` has its batch on two devices, this one its widths."""
    if field == "speech":
        require(speech.FESTVOX_FOLDER)
    config = config_of(field, **{"model.kind": "transformer", "model.experts": 0, **values})
    whole = pairs_workdir / "runs" / loop.run_id(config)
    config = config_lib.with_values(config, {"parallel.data": 1, "parallel.fsdp": 2})
    split = loop.train_run(config, tmp_path)
    one, other = (
        [row["loss"] for row in files.read_lines(folder / "metrics.jsonl", "step")]
        for folder in (whole, tmp_path)
    )
    np.testing.assert_allclose(one, other, rtol=1e-4)
    expected = results.read(whole / "result.json")
    assert expected.config_hash == split.config_hash
    assert expected.loss == pytest.approx(split.loss, rel=1e-4)
    assert expected.metrics == pytest.approx(split.metrics, rel=2e-2) and len(split.metrics) > 5


@pytest.mark.parametrize(
    ("field", "values", "line"),
    [
        ("vision", {"model.patch_width": 3},
         "config.model.patch_width=3 does not divide config.data.width=8"),
        ("vision", {"model.tied_head": True}, "has no embedding to tie"),
        ("recommend", {"train.accumulate": 2}, "config.train.accumulate=2 would weigh"),
        ("recommend", {"data.unique_tokens": 10}, "config.data.unique_tokens=10 is for"),
        ("recommend", {"data.height": 8}, "config.data.height=8 is for vision"),
    ],
)  # fmt: skip
def test_what_a_field_cannot_take_is_one_line(field, values, line):
    with pytest.raises(UserError, match=line) as caught:
        config_of(field, **values)
    assert "\n" not in str(caught.value)


def test_missing_sizes_are_named():
    base = config_lib.with_values(
        config_lib.base_config(), {"data.field": "vision", "data.name": "digits"}
    )
    with pytest.raises(UserError, match="give the sizes of the examples of digits"):
        accounting.shape_of(base)


def test_fewer_examples_are_a_part_of_more(tmp_path):
    def first_epoch(count):
        config = config_of(
            "vision", **{"data.unique_tokens": count, "data.crop": 0, "data.mixup": 0.0}
        )
        prepared = fields.of("vision").prepare(config)
        assert prepared.unique == count
        batches = [prepared.dispatches(config, (0, 1))[k]["x"] for k in range(-(-count // 256))]
        x_N = np.concatenate([b.reshape(-1, 64) for b in batches])[:count]
        return {x.tobytes() for x in x_N}

    few, more = first_epoch(100), first_epoch(300)
    assert few < more
