"""Every kind of model: causal, the same by every switch, counted, trained, or refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from scaling import accounting
from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.config.flat_dict import flatten
from scaling.models import losses, parameters
from scaling.models.block import Block
from scaling.parallel import sharding
from scaling.programs import optim, schedules, train_step
from scaling.utils.errors import UserError
from tests.models.test_transformer import T, V, build, loss_and_grads, tokens

KINDS = {
    "mlp": {"model.kind": "mlp", "model.positions": "learned"},
    "cnn": {"model.kind": "cnn"},
    "lstm": {"model.kind": "lstm", "model.mlp": "swiglu"},
    "lru": {"model.kind": "lru", "model.tied_head": True},
    "experts": {"model.experts": 4, "model.mlp": "swiglu"},
    "grouped": {
        "model.heads": 4,
        "model.head_dim": 8,
        "model.kv_heads": 2,
        "model.bias": "all",
        "model.norm": "layernorm",
        "model.mlp": "swiglu",
    },
    "switch": {"model.kind": "lstm", "model.experts": 3, "model.experts_per_token": 1},
}
SIZES = {"model.depth": 2, "model.width": 64, "model.head_dim": 8, "model.kv_heads": 2,
         "model.mlp_width": 96, "data.vocab_size": 300, "data.seq_len": 32}  # fmt: skip
NO_MATRIX = ("w_DE", "w_JD", "w_JJD")  # a router, filters of one channel each
SHARED = {"model.scan_layers": True, "model.remat": "block", "model.matmul": "flat"}


@pytest.mark.parametrize("name", KINDS)
def test_no_position_sees_a_later_one(name):
    model = build(KINDS[name])
    apply = jax.jit(lambda tokens_BT: model(tokens_BT))
    first = tokens()[:, :-1]
    second = first.at[:, 10:].set((first[:, 10:] + 1) % V)
    a, b = apply(first), apply(second)
    np.testing.assert_allclose(a[:, :10], b[:, :10], rtol=1e-5, atol=1e-5)
    assert np.abs(a[:, 10:] - b[:, 10:]).max() > 1e-3
    # and the last of them sees more than itself
    third = first.at[:, T - 5].set((first[:, T - 5] + 1) % V)
    assert np.abs(apply(third)[:, -1] - a[:, -1]).max() > 1e-5


@pytest.mark.parametrize("name", KINDS)
def test_scanned_and_unrolled_blocks_are_equal(name):
    plain_loss, plain_grads = loss_and_grads(build(KINDS[name]))
    loss, grads = loss_and_grads(build({**KINDS[name], **SHARED}))
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(plain_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_is_counted_and_names_its_axes_and_matrices(name):
    model = build(KINDS[name])
    config = config_lib.with_values(config_lib.load("configs/base.py"), {
        "model.depth": 3, "model.width": 32, "model.mlp_width": 64, "data.seq_len": T,
        **KINDS[name],
    })  # fmt: skip
    counted = accounting.param_groups(accounting.shape_of(config))
    sizes = dict.fromkeys(counted, 0)
    owners = {"embedding_VD": "embedding", "positions_TD": "positions", "head_DV": "head",
              "w_JDD": "window", "w_DE": "router", "scale": "norms", "bias": "biases",
              **dict.fromkeys(("b_HK", "b_NXK", "b_GF", "b_D"), "biases")}  # fmt: skip
    inner = {"mlp": "mlp", "experts": "mlp", "attention": "mixer", "mixer": "mixer"}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        axes = variable.get_metadata("out_sharding")
        assert len(axes) == variable[...].ndim, path
        assert set(axes) <= set(sharding.RULES), path
        matrix = parameters.info(variable).matrix
        assert (matrix is not None) == (path[-1].startswith("w_") and path[-1] not in NO_MATRIX)
        sizes[owners.get(path[-1]) or inner[path[1]]] += variable[...].size
    assert sizes == counted


def trained(config, values):
    """(programs, losses of 16 steps on sequences that count upwards) from seed 0."""
    ours = config_lib.with_values(config, {
        "model.depth": 1, "train.batch_size": 8, "eval.batch_size": 8, "optim.lr": 0.01, **values,
    })  # fmt: skip
    programs = train_step.programs(ours)
    hyper_R = {k: np.full(1, v, np.float32) for k, v in schedules.hyperparameters(ours).items()}
    batch, zero_R = programs.batch(counting()), np.zeros(1, np.int32)
    metrics = programs.train(programs.init(0), hyper_R, batch, zero_R, zero_R, zero_R + 16)[1]
    return programs, np.asarray(metrics["loss"])


def counting():
    starts = np.random.default_rng(0).integers(0, V, (1, 16, 8, 1))
    return ((starts + np.arange(33)) % V).astype(np.uint8)


def test_experts_report_their_loss_without_what_balances_them(config):
    plain, plain_K = trained(config, KINDS["experts"])
    assert plain_K[-1] < plain_K[0] - 1
    heavy, heavy_K = trained(config, {**KINDS["experts"], "model.balance": 10.0})
    np.testing.assert_allclose(heavy_K[0], plain_K[0], rtol=1e-6)
    assert abs(heavy_K[-1] - plain_K[-1]) > 1e-3, "it changes the training"
    params, tokens_BT1 = plain.init(0)["params"], counting()[0, 0]
    held_out, same = (p.readings(params, tokens_BT1)["loss"] for p in (plain, heavy))
    # relative to the loss, as above: two compilations of one float32 sum
    np.testing.assert_allclose(held_out, same, rtol=1e-6)


@pytest.mark.parametrize("name", ["muon", "adafactor"])
def test_optimizers_that_look_at_shapes_know_those_of_every_kind(config, name):
    """The eigenvalues of an LRU, no matrix, are not decayed either."""
    for values in KINDS.values():
        ours = config_lib.with_values(config, {**values, "optim.name": name})
        state = nnx.state(nnx.eval_shape(lambda v=values: build(v)), nnx.Param)
        params, infos = parameters.to_tree(state), parameters.to_tree(state, parameters.info)
        transform = optim.optimizer(ours.optim, {"weight_decay": 0.1}, infos)
        updates = jax.eval_shape(lambda p, t=transform: t.update(p, t.init(p), p)[0], params)
        assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)
        for path, decayed in jax.tree_util.tree_leaves_with_path(optim.decay_mask(infos, name)):
            vector = path[-1].key in ("scale", "bias", "nu_S", "theta_S")
            assert decayed != (vector or path[-1].key.startswith("b_")), path


def test_the_balance_is_in_the_gradient_once():
    model = build(KINDS["experts"])
    graph, params = nnx.split(model, nnx.Param)
    tokens_BT1 = tokens()

    def mean(params, terms):
        whole = nnx.merge(graph, params)
        return whole.losses(tokens_BT1[:, :-1], tokens_BT1[:, 1:], terms=terms).mean()

    def balance(params):
        return nnx.merge(graph, params).hidden(tokens_BT1[:, :-1])[2]

    weight = 3.0
    grad = jax.jit(jax.grad(mean), static_argnums=1)
    plain, both = grad(params, losses.PLAIN), grad(params, losses.LossTerms(0.0, 0.0, 0.0, weight))
    extra = jax.jit(jax.grad(balance))(params)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(extra)) > 1e-4
    for a, b, c in zip(*map(jax.tree.leaves, (plain, both, extra)), strict=True):
        np.testing.assert_allclose(b, a + weight * c, rtol=1e-4, atol=1e-6)


def test_on_a_grid_attention_and_convolution_see_both_sides():
    config = config_lib.with_values(config_lib.load("configs/base.py"), {"model.width": 16})
    config.unlock()
    config.model.matmul = config.model.attention = "plain"
    rows, columns = 4, 3
    x_BTD = jax.random.normal(jax.random.key(0), (1, rows * columns, 16))
    for kind, kernel, seen in (("transformer", 3, range(12)), ("cnn", 3, (1, 2, 4, 5, 7, 8))):
        config.model.kind, config.model.kernel = kind, kernel
        with nnx.use_eager_sharding(False):
            block = Block(config.model, (rows, columns), rngs=nnx.Rngs(params=0))
        other = block(x_BTD.at[:, 5].add(1.0))[0]  # row 1, column 2
        changed = np.flatnonzero(np.abs(other - block(x_BTD)[0]).max(axis=(0, 2)) > 1e-6)
        assert list(changed) == list(seen), kind


def test_new_keys_leave_old_runs_their_names(config):
    routed = config_lib.with_values(config, {"model.experts": 8})
    changed = {
        "model.kind": "lru", "model.kernel": 9, "model.window": 4, "model.experts": 4,
        "model.experts_per_token": 1, "model.balance": 0.0, "model.heads": 4,
        "model.kv_heads": 1, "model.bias": "qkv",
    }  # fmt: skip
    old = {k: v for k, v in flatten(config).items() if k not in changed}
    assert hashing.run_hash(old) == hashing.run_hash(config)
    hashes = {hashing.run_hash(config_lib.with_values(routed, {k: v})) for k, v in changed.items()}
    assert len(hashes | {hashing.run_hash(config), hashing.run_hash(routed)}) == 11


@pytest.mark.parametrize("study", ["llama3", "qwen3"])
def test_published_models_train_in_miniature(study):
    config = config_lib.load(f"configs/{study}.py")
    few = {"train.steps_per_dispatch": 16, "train.log_every": 16, "optim.schedule": "constant"}
    _, loss_K = trained(config, {**few, **SIZES})
    assert loss_K[-1] < loss_K[0] - 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model.kind": "rnn"}, "model.kind='rnn': choose one of transformer, mlp, cnn, lstm, lru"),
        ({"model.kind": "cnn", "model.kernel": 4}, "model.kernel=4 should be odd.* 3 and 5"),
        ({"model.experts": 2, "model.experts_per_token": 3},
         "experts_per_token=3 is more than .*=2"),
        ({"model.experts": -1}, "model.experts=-1 should be 0 or more"),
        ({"model.kind": "lru", "model.qk_norm": True},
         "model.qk_norm=True: .*'lru' has no queries"),
        ({"model.kind": "lru", "model.kv_heads": 1}, "model.kv_heads=1: .*'lru' has no heads"),
        ({"model.kind": "cnn", "model.bias": "qkv"}, "model.bias='qkv': .*'cnn' has no biases"),
        ({"model.bias": "all", "model.experts": 4}, "model.bias='all': experts have no biases"),
        ({"model.heads": 6, "model.kv_heads": 4},
         "model.kv_heads=4 does not divide the 6 query heads; 2 does"),
        ({"model.heads": 4, "sweep.kind": "compute"}, "model.heads=4: .* config.model.heads=None"),
        ({"model.kv_heads": 2, "sweep.kind": "ladder", "sweep.heads": None,
          "sweep.width_multiple": 8},
         "width_multiple=8 should be a multiple of .*head_dim=8 times config.model.kv_heads=2"),
        ({"model.experts": 4, "train.accumulate": 2},
         "train.accumulate=2 .* choose 1, or .*balance=0"),
    ],
)  # fmt: skip
def test_what_makes_no_model(config, values, said):
    with pytest.raises(UserError, match=said):
        config_lib.with_values(config, values)


def test_a_width_needs_heads_only_where_there_are_some(config):
    config_lib.with_values(config, {"model.kind": "cnn", "model.width": 20})
    with pytest.raises(UserError, match="width=20 is not a multiple"):
        config_lib.with_values(config, {"model.width": 20})
