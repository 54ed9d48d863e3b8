"""muP and CompleteP: equal to sp at the base, and scaled by their table elsewhere.

Shapes: R rows and C columns of a matrix, L layers.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.config import load as config_lib
from scaling.models import parametrization
from scaling.models.parameters import Matrix, ParamInfo
from scaling.programs import optim
from scaling.programs.step_functions import StepFunctions
from scaling.utils.errors import UserError
from tests.common import TINY, flags
from tests.models.test_architectures import KINDS

BASE = {**TINY, "model.base_width": 16, "data.seq_len": 8, "train.batch_size": 2,
        "model.attention": "plain", "model.matmul": "plain"}  # fmt: skip
KINDS = {"transformer": {}, "untied": {"model.tied_head": False}, **KINDS}


def functions_of(values: dict) -> StepFunctions:
    return StepFunctions(config_lib.load("mini", flags({**BASE, **values})))


def text_of(values: dict) -> str:
    """Return the program of initial values and of the loss with its gradient, as text."""
    functions = functions_of(values)
    params = jax.eval_shape(functions.init, 0)["params"]
    batch = jax.ShapeDtypeStruct((2, 9), jnp.uint8)
    made = (
        jax.make_jaxpr(functions.init)(0),
        jax.make_jaxpr(functions.loss_and_grads)(params, batch),
    )
    return re.sub(r"0x[0-9a-f]+", "", "\n".join(map(str, made)))


@pytest.mark.parametrize("kind", list(KINDS))
def test_at_the_base_every_kind_runs_the_program_of_sp(kind):
    standard = text_of(KINDS[kind])
    for name in ("mup", "completep"):
        assert text_of({**KINDS[kind], "model.parametrization": name}) == standard


def test_beside_the_base_the_program_differs():
    wide = {"model.width": 32, "model.mlp_width": 128}
    assert text_of({**wide, "model.parametrization": "mup"}) != text_of(wide)


def test_at_the_base_the_optimizer_is_that_of_sp():
    functions = functions_of({"model.parametrization": "completep"})
    assert functions.scales.is_base
    large = functions_of({"model.parametrization": "completep", "model.depth": 4})
    assert not large.scales.is_base


LARGE = {"model.parametrization": "completep", "model.width": 64, "model.mlp_width": 256,
         "model.depth": 6, "model.base_depth": 2, "model.tied_head": False}  # fmt: skip


def test_initial_values_and_factors_follow_the_table():
    """Dey et al. 2025, table 1, at m_N = 4 and m_L = 3."""
    functions = functions_of(LARGE)
    params = functions.init(0)["params"]
    blocks, infos, scales = params["blocks"], functions.infos, functions.scales

    def std(x):
        return float(jnp.std(x))

    assert std(params["embedding_VD"]) == pytest.approx(1 / 4, rel=0.02)  # 1 / sqrt(base_width)
    assert std(params["head_DV"]) == pytest.approx(1 / 4, rel=0.02)
    assert std(blocks["attention"]["w_DHXK"]) == pytest.approx(1 / 8, rel=0.02)
    # residual writers are divided once, by the base depth, and not by the depth
    assert std(blocks["attention"]["w_HKD"]) == pytest.approx(1 / 8 / 2, rel=0.02)
    assert std(blocks["mlp"]["w_FD"]) == pytest.approx(1 / 16 / 2, rel=0.02)
    assert (scales.m_width, scales.m_depth) == (4, 3)
    table = {
        "input": (infos["embedding_VD"], 1, 4),
        "output": (infos["head_DV"], 1, 4),
        "hidden": (infos["blocks"]["mlp"]["w_FD"], 1 / 4, 12),
        "vector": (infos["blocks"]["mlp_norm"]["scale"], 1, 12),
    }
    for group, (info, step, gradient) in table.items():
        assert parametrization.group(info) == group
        assert scales.step(info, "adamw") == pytest.approx(step)
        assert scales.gradient(info) == pytest.approx(gradient)
    hidden = table["hidden"][0]
    assert {name: scales.step(hidden, name) for name in parametrization.STEP} == pytest.approx(
        {"adamw": 0.25, "lion": 0.25, "sgd": 0.25, "adafactor": 0.5, "muon": 0.5, "adamh": 0.5,
         "muonh": 1.0}
    )  # fmt: skip


def test_biases_are_vectors():
    """Of heads times head size, too: their number grows with width."""
    functions = functions_of({**LARGE, "model.bias": "all", "model.norm": "layernorm"})
    blocks, scales = functions.infos["blocks"], functions.scales
    scale = blocks["mlp_norm"]["scale"]
    biases = [info for path, info in jax.tree_util.tree_leaves_with_path(blocks)
              if path[-1].key == "bias" or path[-1].key.startswith("b_")]  # fmt: skip
    assert len(biases) == 7
    for info in biases:
        assert parametrization.group(info) == parametrization.VECTOR
        for factor in (scales.gradient, scales.norm_weight, lambda i: scales.step(i, "adamw")):
            assert factor(info) == factor(scale)


def test_forward_factors_of_branches_heads_and_queries():
    functions = functions_of(LARGE)
    standard = functions_of({**LARGE, "model.parametrization": "sp"})
    params = functions.init(0)["params"]
    tokens = np.arange(16, dtype=np.int32).reshape(2, 8)
    no_branches = jax.tree.map(lambda x: x, params)
    for half, name in (("attention", "w_HKD"), ("mlp", "w_FD")):
        no_branches["blocks"][half][name] *= 0
    ours, theirs = (f.as_model(no_branches)(tokens) for f in (functions, standard))
    np.testing.assert_allclose(ours, theirs / 4, rtol=1e-5)  # logits / m_N
    scales = parametrization.of(
        SimpleNamespace(parametrization="mup", width=64, base_width=16, depth=2, base_depth=2,
                        head_dim=32, base_head_dim=8)
    )  # fmt: skip
    assert float(scales.queries(jnp.ones(()))) == pytest.approx(0.5)  # sqrt(base K / K)
    assert float(functions.scales.branch(jnp.ones(()))) == pytest.approx(1 / 3)


def test_eps_and_clipping_mean_what_they_mean_at_the_base():
    """Gradients smaller by m_N m_L make the step of the base's gradients, times its factor."""
    infos = {
        "w_RC": ParamInfo(("embed", "mlp"), Matrix((-2,), (-1,)), True),
        "scale_D": ParamInfo(("embed",), None, False),
    }
    scales = parametrization.Parametrization("mup", 4.0, 1.0, 16, 2, 1.0)
    o = config_lib.with_values(
        config_lib.load("configs/base.py"), {"optim.eps": 0.1, "optim.clip": 0.5}
    ).optim
    rng = np.random.default_rng(0)
    params = {"w_RC": jnp.zeros((8, 8)), "scale_D": jnp.ones(8)}
    grads = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    ours = optim.optimizer(o, {"weight_decay": 0.0}, infos, scales)
    found, _ = ours.update(jax.tree.map(lambda g: g / 4, grads), ours.init(params), params)
    # the base has 1 / 16 of the numbers of a matrix and 1 / 4 of those of a vector
    norm = np.sqrt(np.sum(grads["w_RC"] ** 2) / 16 + np.sum(grads["scale_D"] ** 2) / 4)
    clipped = jax.tree.map(lambda g: g * min(1, 0.5 / norm), grads)
    adam = optax.scale_by_adam(b1=o.beta1, b2=o.beta2, eps=0.1)
    expected, _ = adam.update(clipped, adam.init(params), params)
    np.testing.assert_allclose(found["w_RC"], expected["w_RC"] / 4, rtol=1e-5)
    np.testing.assert_allclose(found["scale_D"], expected["scale_D"], rtol=1e-5)


@pytest.mark.parametrize("name", ["adamh", "muonh"])
def test_matrices_keep_their_norms_and_move_by_the_learning_rate(name):
    infos = {"w_LRC": ParamInfo(("layers", "embed", "mlp"), Matrix((-2,), (-1,)), True)}
    rng = np.random.default_rng(0)
    params = {"w_LRC": jnp.asarray(rng.normal(size=(2, 6, 5)), jnp.float32)}
    norm = np.linalg.norm(params["w_LRC"], axis=(1, 2))
    o = config_lib.with_values(config_lib.load("configs/base.py"), {"optim.name": name}).optim
    transform = optim.optimizer(o, {"weight_decay": 0.3}, infos)
    state = transform.init(params)
    for step in range(3):
        grads = {"w_LRC": jnp.asarray(rng.normal(size=(2, 6, 5)), jnp.float32)}
        updates, state = transform.update(grads, state, params)
        np.testing.assert_allclose(np.linalg.norm(updates["w_LRC"], axis=(1, 2)), norm, rtol=1e-5)
        moved = optim.apply_updates(params, updates, 0.1, infos, name)
        expected = params["w_LRC"] - 0.1 * updates["w_LRC"]
        expected *= (norm / np.linalg.norm(expected, axis=(1, 2)))[:, None, None]
        np.testing.assert_allclose(moved["w_LRC"], expected, rtol=1e-5, err_msg=str(step))
        params = moved


def test_an_optimizer_without_a_rule_is_refused(monkeypatch):
    monkeypatch.delitem(parametrization.STEP, "lion")
    with pytest.raises(UserError, match=r"config\.optim\.name='lion' has no rule of width"):
        functions_of({**LARGE, "optim.name": "lion"}).init(0)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"model.base_width": 12}, "base_width=12 is not a multiple of config.model.head_dim=8"),
        (
            {"sweep.kind": "compute", "model.base_width": 9},
            "config.model.base_width=9 is not a multiple of config.sweep.heads=2",
        ),
        ({"model.base_head_dim": 6}, "base_width=16 is not a multiple of config.model.base_head_"),
    ],
)
def test_a_base_without_whole_heads_is_refused(values, line):
    with pytest.raises(UserError, match=re.escape(line)):
        functions_of({"model.parametrization": "mup", **values})
