"""Parameters state their metadata; the tree that checkpoints hold keeps its layout."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from scaling.fields import registry as fields
from scaling.models import parameters
from tests.fields.common import config_of
from tests.models.test_transformer import build

# The keys of a checkpoint made by earlier versions, whose files still have to open.
LANGUAGE = {
    "['blocks']['mlp']['w_DGF']", "['blocks']['mlp']['w_FD']", "['blocks']['mlp_norm']['scale']",
    "['embedding_VD']", "['final_norm']['scale']", "['head_DV']", "['positions_TD']", "['w_JDD']",
}  # fmt: skip
VISION = {
    "['blocks']['attention']['w_DHXK']", "['blocks']['attention']['w_HKD']",
    "['blocks']['attention_norm']['scale']", "['blocks']['mlp']['w_DGF']",
    "['blocks']['mlp']['w_FD']", "['blocks']['mlp_norm']['scale']", "['final_norm']['scale']",
    "['head_DY']", "['patch_PD']", "['positions_TD']",
}  # fmt: skip


def tree_of(build):
    """The parameters of a model as shapes, without building it."""
    return parameters.to_tree(nnx.state(nnx.eval_shape(build), nnx.Param))


def vision():
    with nnx.use_eager_sharding(False):
        return fields.of("vision").model(config_of("vision"), nnx.Rngs(params=0))


def test_checkpoints_hold_the_ends_of_a_model_at_their_root():
    language = {"model.kind": "mlp", "model.positions": "learned"}
    for tree, expected in ((tree_of(lambda: build(language)), LANGUAGE), (tree_of(vision), VISION)):
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
        assert {jax.tree_util.keystr(path) for path in paths} == expected


def test_a_tree_goes_into_a_state_and_back():
    state = nnx.state(nnx.eval_shape(vision), nnx.Param)
    numbers = iter(range(100))
    tree = jax.tree.map(lambda x: np.full(x.shape, next(numbers)), parameters.to_tree(state))
    filled = parameters.from_tree(tree, state)
    np.testing.assert_array_equal(filled["inputs"]["patch_PD"][...], tree["patch_PD"])
    np.testing.assert_array_equal(filled["outputs"]["head_DY"][...], tree["head_DY"])
    jax.tree.map(np.testing.assert_array_equal, parameters.to_tree(filled), tree)
    assert isinstance(state["inputs"]["patch_PD"].get_value(), jax.ShapeDtypeStruct), (
        "written into `like`"
    )


def test_a_parameter_without_metadata_is_refused():
    bare = nnx.Param(np.ones(2))
    with pytest.raises(
        ValueError, match="states no out_sharding, matrix, decay; create it by normal_param"
    ):
        parameters.info(bare)
